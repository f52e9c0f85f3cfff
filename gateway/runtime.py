"""What the handlers work with: clients of Redis, Kafka and ClickHouse, the programs as they stand.

Nothing of it is state: any number of gateways run side by side, and one that dies takes nothing with it but answers that a till asks for
again.
"""

import asyncio
import logging

from confluent_kafka import KafkaException
from msgspec import Struct

from tillstream.gateway.feed import Feed
from tillstream.gateway.inbox import LISTEN_S, Inbox
from tillstream.gateway.keyring import Keyring
from tillstream.gateway.limits import Buckets, parse_rates
from tillstream.gateway.metrics import Metrics
from tillstream.gateway.nonces import Nonces
from tillstream.gateway.producer import KafkaEvents, Lane
from tillstream.gateway.security import Security
from tillstream.gateway.snapshots import Snapshots
from tillstream.gateway.spooling import Spooling
from tillstream.gateway.standing import Standings
from tillstream.gateway.vault import Vault
from tillstream.kernels.identities import Seal
from tillstream.sinks.redis import connect
from tillstream.sinks.registry import RegistryStore
from tillstream.sinks.replies import Replies
from tillstream.sinks.state import StateStore
from tillstream.sinks.statement import Statements
from tillstream.sinks.vouchers import VoucherStore
from tillstream.streams.programs import FOLLOW_EVERY_S, Programs

ANSWER_S = 0.4
"""Of Redis, to one command, asked once more where a connection broke: a till is told within a second."""

CLICK_BYTES_WAITING_MAX = 16 * 1024 * 1024
"""Of page views on their way to Kafka: an eighth of what the producer holds, so that receipts always find room."""

log = logging.getLogger("tillstream.gateway")


class GatewaySettings(Struct, frozen=True, kw_only=True):
    """The part of the configuration that a gateway needs; `tillstream.config` documents each; `kafka_security` is librdkafka's."""

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
    gateway_auth: bool
    gateway_rates: str
    gateway_replay_window_s: int
    gateway_snapshot_s_max: int
    spool_folder: str
    spool_bytes_max: int
    redis_ca: str
    clickhouse_ca: str
    kafka_security: dict[str, str]
    gateway_origins: str
    gateway_pages_max: int


class Gateway:
    """One gateway's clients; `seed`: the program's text where none is published."""

    def __init__(self, settings: GatewaySettings, seed: str | None) -> None:
        self.settings = settings
        self.kafka = {"bootstrap.servers": settings.kafka, **settings.kafka_security}
        self.seal = Seal(settings.identity_key.encode(), settings.phone_region)
        self.snapshots = Snapshots(settings.identity_key.encode(), settings.gateway_snapshot_s_max)
        self.metrics = Metrics()
        self.programs = Programs(self.kafka, seed)
        self.redis = connect(settings.redis, ANSWER_S, settings.redis_ca)
        self.state, self.registry, self.replies = StateStore(self.redis), RegistryStore(self.redis), Replies(self.redis)
        self.vouchers = VoucherStore(self.redis)
        self.inbox = Inbox(self.redis)
        self.events = KafkaEvents(self.kafka)
        self.clicks = Lane(self.events, CLICK_BYTES_WAITING_MAX)
        self.feed = Feed(self.kafka, settings.partitions, settings.gateway_pages_max, self.metrics)
        self.keyring = Keyring(self.kafka, Vault(settings.identity_key.encode()))
        self.security = self._security() if settings.gateway_auth else None
        self.history = Statements(settings.clickhouse, settings.clickhouse_ca)
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Reads keys and programs and begins to follow them; drains what an earlier process spooled.

        Raises:
            NoProgram: nothing is published, and there is no seed.
            SpoolInUse, OSError: the spool's folder can't be had.
        """
        self.spooling = Spooling(self.events, self.seal, self.settings.spool_folder, self.settings.spool_bytes_max)
        self.metrics.spooled.set_function(lambda: self.spooling.records)
        if self.security is not None:
            await self.keyring.start()
            self.tasks.append(asyncio.create_task(self.keyring.follow()))
        self.posters = await self.programs.start()
        self.standings = Standings(self.redis, self.settings.partitions, self.posters)
        self.events.start()
        self.tasks += [asyncio.create_task(self._follow()), asyncio.create_task(self.inbox.run()), asyncio.create_task(self.spooling.run())]

    async def stop(self) -> None:
        """Ends what runs, then closes the connections."""
        self.inbox.stop()
        await self.feed.stop()
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks, timeout=2 * LISTEN_S)
        await self.spooling.close()
        await self.events.stop()
        self.keyring.close()
        self.programs.stop()
        await self.redis.aclose()

    def _security(self) -> Security:
        window_s = self.settings.gateway_replay_window_s
        return Security(self.keyring, Nonces(self.redis, window_s), Buckets(parse_rates(self.settings.gateway_rates)), window_s)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_EVERY_S)
            try:
                await self.programs.follow()
            except KafkaException as error:
                log.warning("programs_not_followed error=%s", error)
