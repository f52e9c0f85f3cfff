"""What the handlers work with: clients of Redis, Kafka and ClickHouse, the programs as they stand.

Nothing of it is state: any number of gateways run side by side, and one that dies takes nothing with it but answers that a till asks for
again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from confluent_kafka import KafkaException
from msgspec import Struct

from tillstream.gateway.inbox import LISTEN_S, Inbox
from tillstream.gateway.metrics import Metrics
from tillstream.gateway.producer import KafkaEvents, Lane
from tillstream.gateway.standing import Standings
from tillstream.kernels.identities import Seal
from tillstream.sinks.redis import connect
from tillstream.sinks.registry import RegistryStore
from tillstream.sinks.replies import Replies
from tillstream.sinks.state import StateStore
from tillstream.sinks.statement import Statements
from tillstream.sinks.writer import Record
from tillstream.streams.programs import FOLLOW_EVERY_S, Programs

ANSWER_S = 0.4
"""Of Redis, to one command, asked once more where a connection broke: a till is told within a second."""

CLICK_BYTES_WAITING_MAX = 16 * 1024 * 1024
"""Of page views on their way to Kafka: an eighth of what the producer holds, so that receipts always find room."""

Submit = Callable[[Sequence[Record]], Awaitable[None]]
"""Keeps events for good before it returns, or raises KafkaAway: Kafka itself, or a spool in front of it."""

log = logging.getLogger("tillstream.gateway")


class GatewaySettings(Struct, frozen=True, kw_only=True):
    """The part of the configuration that a gateway needs; `tillstream.config` documents each."""

    kafka: str
    redis: str
    clickhouse: str
    identity_key: str
    phone_region: str
    partitions: int
    gateway_host: str
    gateway_port: int
    gateway_body_bytes_max: int
    gateway_wait_ms: int
    gateway_wait_ms_max: int
    gateway_origins: str


class Gateway:
    """One gateway's clients; `seed`: the program's text where none is published."""

    def __init__(self, settings: GatewaySettings, seed: str | None) -> None:
        self.settings = settings
        self.kafka = {"bootstrap.servers": settings.kafka}
        self.seal = Seal(settings.identity_key.encode(), settings.phone_region)
        self.metrics = Metrics()
        self.programs = Programs(self.kafka, seed)
        self.redis = connect(settings.redis, ANSWER_S)
        self.state, self.registry, self.replies = StateStore(self.redis), RegistryStore(self.redis), Replies(self.redis)
        self.inbox = Inbox(self.redis)
        self.events = KafkaEvents(self.kafka)
        self.submit: Submit = self.events.submit
        self.clicks = Lane(self.events, CLICK_BYTES_WAITING_MAX)
        self.history = Statements(settings.clickhouse)
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Reads the programs and begins to follow them.

        Raises:
            NoProgram: nothing is published, and there is no seed.
        """
        self.posters = await self.programs.start()
        self.standings = Standings(self.redis, self.settings.partitions, self.posters)
        self.events.start()
        self.tasks += [asyncio.create_task(self._follow()), asyncio.create_task(self.inbox.run())]

    async def stop(self) -> None:
        """Ends what runs, then closes the connections."""
        self.inbox.stop()
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks, timeout=2 * LISTEN_S)
        await self.events.stop()
        self.programs.stop()
        await self.redis.aclose()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_EVERY_S)
            try:
                await self.programs.follow()
            except KafkaException as error:
                log.warning("programs_not_followed error=%s", error)
