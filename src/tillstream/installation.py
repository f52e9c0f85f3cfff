"""The embedded installation: servers, topics and workers of one machine, started together, and nothing left of them afterwards.

In: a program file. Out: a configuration that leads to it, for this process and for others.
"""

import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import ClassVar
from urllib.error import HTTPError
from urllib.request import urlopen

from msgspec import structs
from msgspec.structs import asdict

from tillstream.config import ENVIRONMENT_PREFIX, Config, load_program
from tillstream.embedded.process import HOST, PROBE_S_MAX, Server, ServerError
from tillstream.embedded.system import System
from tillstream.errors import TillstreamError
from tillstream.servers import check_servers
from tillstream.streams.topics import ensure_topics
from tillstream.worker import Role

PARTITIONS = 8
"""One machine with two workers has no use for more; every partition costs it batches."""

SESSION_MS = 6_000
"""Joining the embedded broker's groups takes half of it; six seconds is the least that the broker takes."""


ROLES_HERE: tuple[Role, ...] = ("points", "history", "offers", "models")
"""All but `deliver`: where triggers are delivered to, only an operator can say."""


class WorkerProcess(Server):
    """One `tillstream worker` as a child process; it has no port, so it counts as ready when it runs."""

    name: ClassVar[str] = "worker"
    grace_s: ClassVar[float] = 15.0

    def __init__(self, config: Config, role: Role, folder: Path | None = None) -> None:
        super().__init__(folder)
        self.config = config
        self.role = role

    @property
    def address(self) -> str:
        return self.role

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tillstream", "worker", "--role", self.role]

    def environment(self) -> Mapping[str, str]:
        # What Faust puts into its data folder goes with this one.
        return {**environment_of(self.config), "TMPDIR": str(self.folder)}

    def answers(self) -> bool:
        return self.running

    def peak_mib(self) -> int | None:
        """The most memory that the process has had so far, MiB; None where the system does not tell."""
        try:
            lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        except OSError:
            return None
        return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:")), None)


class GatewayProcess(Server):
    """One `tillstream gateway` as a child process, on a free loopback port; ready when it can answer."""

    name: ClassVar[str] = "gateway"
    grace_s: ClassVar[float] = 15.0

    def __init__(self, config: Config, folder: Path | None = None) -> None:
        super().__init__(folder)
        self.config = config

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tillstream", "gateway"]

    def environment(self) -> Mapping[str, str]:
        return environment_of(structs.replace(self.config, gateway_host=HOST, gateway_port=self.port))

    def answers(self) -> bool:
        if not self.running:
            return False
        try:
            with urlopen(f"{self.address}/readyz", timeout=PROBE_S_MAX) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except HTTPError:
            return False


@contextmanager
def gateway_of(config: Config) -> Iterator[str]:
    """A gateway of an installation; gives its address.

    Raises:
        TillstreamError: it does not start.
    """
    try:
        with GatewayProcess(config) as address:
            yield address
    except ServerError as error:
        raise TillstreamError(str(error)) from None


class Installation:
    """Embedded servers and one worker per role. Errors of starting are `TillstreamError`s of one line."""

    def __init__(self, program: Path) -> None:
        self.program = program.resolve()
        self.stack = ExitStack()
        self.workers: dict[Role, WorkerProcess] = {}

    def __enter__(self) -> Config:
        load_program(str(self.program))  # A mistake in it should not cost the start of three servers.
        try:
            addresses = self.stack.enter_context(System())
            config = Config(
                kafka=addresses.kafka,
                kafka_transactions=False,
                redis=addresses.redis,
                clickhouse=addresses.clickhouse,
                program=str(self.program),
                identity_key=secrets.token_hex(16),
                gateway_auth=False,
                partitions=PARTITIONS,
                session_ms=SESSION_MS,
                poll_interval_ms=20_000,
                log_level="warning",
            )
            ensure_topics(config.kafka, config.partitions, config.replication)
            check_servers(config, "history")
            for role in ROLES_HERE:
                self.workers[role] = WorkerProcess(config, role)
                self.stack.callback(self.workers[role].stop)
                self.workers[role].start()
        except ServerError as error:
            self.stack.close()
            raise TillstreamError(str(error)) from None
        except BaseException:
            self.stack.close()
            raise
        return config

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stack.close()

    def check_workers(self) -> None:
        """Raises TillstreamError, with the end of its log, where a worker has died."""
        for role, worker in self.workers.items():
            if not worker.running:
                raise TillstreamError(f"the {role} worker ended: " + " | ".join(worker.log_tail()))


def environment_of(config: Config) -> dict[str, str]:
    """The variables that lead another process to the same installation."""
    default = asdict(Config())
    changed = {name: value for name, value in asdict(config).items() if value != default[name]}
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in changed.items()}
    return {ENVIRONMENT_PREFIX + name.upper(): text for name, text in texts.items()}
