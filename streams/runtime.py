"""What a worker's agents work with: clients and sinks, connected at the first assignment, closed at the end."""

import asyncio

from confluent_kafka import Consumer, TopicPartition
from msgspec import Struct

from tillstream.kernels.identities import Seal
from tillstream.sinks.archive import Archive
from tillstream.sinks.budgets import BudgetStore
from tillstream.sinks.clickhouse import connect as connect_clickhouse
from tillstream.sinks.clickhouse import migrate
from tillstream.sinks.directory import Directory
from tillstream.sinks.history_offers import OfferHistory
from tillstream.sinks.redis import connect, load_library
from tillstream.sinks.replies import Replies
from tillstream.sinks.state import StateStore
from tillstream.sinks.vouchers import VoucherStore
from tillstream.sinks.writer import LEDGER_PRODUCER, Writer
from tillstream.streams.accrue import Accrue
from tillstream.streams.enrol import Enrol
from tillstream.streams.groups import Groups
from tillstream.streams.history import HistoryAgent
from tillstream.streams.identify import Identify
from tillstream.streams.programs import Programs
from tillstream.streams.rebuild import claim_all, restore_budgets, restore_directory
from tillstream.streams.recall import Recall
from tillstream.streams.recovery import Recovery
from tillstream.streams.stats import Stats, tell_alive
from tillstream.streams.topics import LEDGER
from tillstream.streams.vouchers import VoucherView
from tillstream.streams.window import Window

ANSWER_S = 15.0



class WorkerSettings(Struct, frozen=True, kw_only=True):
    """The part of the configuration that a worker needs; `tillstream.config` documents each; `kafka_security` is librdkafka's."""

    kafka: str
    kafka_transactions: bool
    redis: str
    clickhouse: str
    identity_key: str
    phone_region: str
    partitions: int
    session_ms: int
    poll_interval_ms: int
    batch_rows_max: int
    receipt_window_days: int
    history_rows: int
    redis_ca: str = ""
    clickhouse_ca: str = ""
    kafka_security: dict[str, str] = {}
    visitor_events_max: int = 120
    deliver_private: bool = False
    deliver_metrics: str = ""
    offers_metrics: str = ""


class Runtime:
    """What every worker has: Redis, a writer, and `identify`; `start` may be called again and again."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.seal = Seal(settings.identity_key.encode(), settings.phone_region)
        self.kafka = {"bootstrap.servers": settings.kafka, **settings.kafka_security}
        self.starting = asyncio.Lock()
        self.started = False

    async def start(self) -> None:
        """Connects to the servers."""
        async with self.starting:
            if not self.started:
                await self.connect()
                self.started = True

    async def connect(self) -> None:
        """What `start` does once."""
        settings = self.settings
        self.redis = connect(settings.redis, ca=settings.redis_ca)
        await load_library(self.redis, settings.redis)
        self.state, self.directory = StateStore(self.redis), Directory(self.redis)
        self.routes = Writer(self.kafka)
        await self.routes.start()
        self.replies = Replies(self.redis)
        self.identify = Identify(self.directory, self.routes, self.seal, settings.partitions, self.replies)

    async def stop(self) -> None:
        """Ends after the appends in progress."""
        if self.started:
            await self.routes.stop()
            await self.redis.aclose()


class PointsRuntime(Runtime):
    """What the agents that give points work with."""

    def __init__(self, settings: WorkerSettings, seed: str | None, worker: str) -> None:
        super().__init__(settings)
        self.worker = worker
        self.programs = Programs(self.kafka, seed)
        self.stats = Stats()

    async def connect(self) -> None:
        await super().connect()
        settings = self.settings
        self.ledger = Writer(self.kafka | LEDGER_PRODUCER, f"tillstream-{self.worker}" if settings.kafka_transactions else None)
        await self.ledger.start()
        self.budgets = BudgetStore(self.redis)
        self.posters = await self.programs.start()
        if await self.directory.members_offset() is None:
            if self.posters.budget_limits:
                await restore_budgets(self.budgets, self.kafka, settings.partitions)
            await restore_directory(self.directory, self.kafka, settings.partitions, self.seal)
        self.recovery = Recovery(self.state, self.kafka)
        groups = Groups(self.directory.registry, self.state, settings.partitions)
        self.enrol = Enrol(self.directory, self.routes, self.seal, groups, self.replies)
        self.accrue = Accrue(self.posters, self.state, self.ledger, self.stats, groups, self.budgets, self.replies)
        self.window = Window(self.state, self.directory, settings.receipt_window_days)
        self.vouchers = VoucherView(VoucherStore(self.redis), self.kafka, self.replies)

    async def recover(self, partition: int) -> int:
        """Brings Redis up to the ledger and to the claims of one partition; gives the source offset to go on from."""
        before = await self.state.standing(partition)
        go_on = await self.recovery.recover(partition)
        await self.budgets.restore(partition)
        await claim_all(self.directory, self.kafka, partition, before.offset + 1)
        return go_on

    async def follow_programs(self) -> None:
        """Takes programs that were published meanwhile."""
        if self.started:
            await self.programs.follow()

    async def publish_stats(self) -> None:
        """Lets operators and `demo` see how far this worker is."""
        if self.started:
            await self.stats.publish(self.redis, self.worker)

    async def tell_alive(self) -> None:
        """Lets gateways see that somebody gives points."""
        if self.started:
            await tell_alive(self.redis)

    async def stop(self) -> None:
        if self.started:
            await self.publish_stats()
            self.programs.stop()
            await self.ledger.stop()
        await super().stop()


class HistoryRuntime(Runtime):
    """What the agents that write history, and ask it, work with."""

    async def connect(self) -> None:
        await super().connect()
        client = await asyncio.to_thread(connect_clickhouse, self.settings.clickhouse, self.settings.clickhouse_ca)
        await asyncio.to_thread(migrate, client)
        turn = asyncio.Lock()
        self.history = HistoryAgent(OfferHistory(client, self.settings.history_rows), self.state, turn)
        self.recall = Recall(Archive(client), self.identify, turn)

    async def note_written(self, partitions: list[int]) -> None:
        """Tells Redis, which may have been emptied since, how far ClickHouse has the ledger."""
        for place in await asyncio.to_thread(self._committed, partitions):
            if place.offset > 0:
                await self.state.note_history(place.partition, place.offset - 1)

    def _committed(self, partitions: list[int]) -> list[TopicPartition]:
        consumer = Consumer({**self.kafka, "group.id": "tillstream-history", "enable.auto.commit": False})
        try:
            committed: list[TopicPartition] = consumer.committed([TopicPartition(LEDGER, p) for p in partitions], timeout=ANSWER_S)
            return committed
        finally:
            consumer.close()
