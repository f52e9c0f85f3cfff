"""The embedded system: broker, Redis and ClickHouse, started together and stopped together.

In: nothing, or a folder. Out: their addresses, as configuration takes them; afterwards no process and no file.

    with System() as addresses:
        run(addresses.kafka, addresses.redis, addresses.clickhouse)
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tillstream.embedded.broker import Broker
from tillstream.embedded.clickhouse import ClickHouse
from tillstream.embedded.process import Server, ServerError
from tillstream.embedded.redis import Redis


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the servers listen.

    `kafka` is a bootstrap address `127.0.0.1:port`, `redis` a URL `redis://127.0.0.1:port/0`, `clickhouse` a DSN
    `http://127.0.0.1:port`.
    """

    kafka: str
    redis: str
    clickhouse: str


class System:
    """All embedded servers. Any number of Systems may run side by side.

    `folder`: by default each server has a temporary folder; a given one gets a subfolder per server, removed at the
    end unless `keep`. A folder that already holds a System's files is refused: the broker keeps its topics in memory
    only, and what the other two remember of an earlier run (offsets, deduplication tokens) would swallow a new one.
    """

    def __init__(self, folder: Path | None = None, *, keep: bool = False) -> None:
        self._folder = folder
        self.broker = Broker(self._subfolder("broker"), keep=keep)
        self.redis = Redis(self._subfolder("redis"), keep=keep)
        self.clickhouse = ClickHouse(self._subfolder("clickhouse"), keep=keep)

    @property
    def servers(self) -> tuple[Server, ...]:
        """In the order they are started; ClickHouse takes longest, so it comes first."""
        return (self.clickhouse, self.broker, self.redis)

    def start(self) -> Addresses:
        """Start all servers at once; ServerError where one fails, and then none is left."""
        for server in self.servers:
            if server.running:
                raise ServerError("the embedded system is already started")
            if self._folder is not None and (self._folder / server.name).exists():
                raise ServerError(f"{self._folder} holds the files of an earlier system: give an empty folder")
        try:
            for server in self.servers:
                server.launch()
            for server in self.servers:
                server.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return Addresses(self.broker.address, self.redis.address, self.clickhouse.address)

    def stop(self) -> None:
        """Stop all servers, last started first, also when stopping one of them fails."""
        with ExitStack() as stack:
            for server in self.servers:
                stack.callback(server.stop)

    def _subfolder(self, name: str) -> Path | None:
        return None if self._folder is None else self._folder / name

    def __enter__(self) -> Addresses:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
