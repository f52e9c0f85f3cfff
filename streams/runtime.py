"""What a worker's agents work with: clients and sinks, connected at the first assignment, closed at the end."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog
from confluent_kafka import Consumer, Message, TopicPartition
from msgspec import Struct

from tillstream.kernels.identities import Seal
from tillstream.models.checkpoints import Signer
from tillstream.sinks.archive import Archive
from tillstream.sinks.budgets import BudgetStore
from tillstream.sinks.checkpoints import CheckpointStore
from tillstream.sinks.clickhouse import connect as connect_clickhouse
from tillstream.sinks.clickhouse import migrate
from tillstream.sinks.delivery.target import Target
from tillstream.sinks.delivery.webhook import Poster
from tillstream.sinks.directory import Directory
from tillstream.sinks.features import FeatureStore
from tillstream.sinks.history_offers import OfferHistory
from tillstream.sinks.offers import OfferStore
from tillstream.sinks.redis import connect, load_library
from tillstream.sinks.replies import Replies
from tillstream.sinks.state import StateStore
from tillstream.sinks.vouchers import VoucherStore
from tillstream.sinks.writer import LEDGER_PRODUCER, Writer
from tillstream.streams.accrue import Accrue
from tillstream.streams.decide import Decide
from tillstream.streams.deliver import Deliver
from tillstream.streams.delivery_metrics import DeliveryMetrics
from tillstream.streams.enrol import Enrol
from tillstream.streams.forget import Forget
from tillstream.streams.groups import Groups
from tillstream.streams.history import HistoryAgent
from tillstream.streams.identify import Identify
from tillstream.streams.learn import Learn
from tillstream.streams.observe import Observe
from tillstream.streams.offers_restore import restore_offers
from tillstream.streams.programs import Programs
from tillstream.streams.rebuild import claim_all, restore_budgets, restore_directory
from tillstream.streams.recall import Recall
from tillstream.streams.recovery import Recovery
from tillstream.streams.regard import Regard
from tillstream.streams.scoring import Champions
from tillstream.streams.stats import Stats, tell_alive
from tillstream.streams.topics import LEDGER
from tillstream.streams.vouchers import VoucherView
from tillstream.streams.window import Window

ANSWER_S = 15.0

DIRECTORY_LOOK_S = 0.5
DIRECTORY_WARN_LOOKS = 30
"""Between two lines in the log there are so many looks: a quarter of a minute."""

_log = structlog.get_logger(__name__)


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
    deliver_private: bool = False
    deliver_metrics: str = ""


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


class DeliverRuntime:
    """What the agent that delivers triggers works with: Kafka and the endpoints, nothing else."""

    def __init__(self, settings: WorkerSettings, targets: Sequence[Target]) -> None:
        self.settings = settings
        self.targets = targets
        self.kafka = {"bootstrap.servers": settings.kafka, **settings.kafka_security}
        self.deliver: Deliver | None = None

    async def recover(self, partitions: list[int]) -> dict[int, int]:
        """Takes up what waits in these partitions; the offsets of the triggers to go on from, where they are known."""
        if self.deliver is None:
            metrics, writer = DeliveryMetrics(), Writer(self.kafka)
            if self.settings.deliver_metrics:
                metrics.serve(self.settings.deliver_metrics)
            await writer.start()
            self.deliver = Deliver(self.targets, writer, Poster(self.settings.deliver_private), metrics)
            self.deliver.start()
        await self.deliver.let_go()
        found = {partition: await self.deliver.recover(self.kafka, partition) for partition in partitions}
        return {partition: offset for partition, offset in found.items() if offset is not None}

    async def take(self, partition: int, messages: Sequence[Message]) -> None:
        """A batch of triggers."""
        assert self.deliver is not None  # Batches come behind the assignment, which `recover` was called for.
        await self.deliver.take(partition, messages)

    def check(self) -> None:
        """Raises what an attempt failed with that was not the endpoint's fault: the worker ends, and the next one goes on."""
        if self.deliver is not None and self.deliver.failed is not None:
            raise self.deliver.failed

    async def let_go(self) -> None:
        """Its partitions are somebody else's now."""
        if self.deliver is not None:
            await self.deliver.let_go()

    async def stop(self) -> None:
        """Ends after the attempts that are under way."""
        if self.deliver is not None:
            await self.deliver.stop()
            await self.deliver.poster.close()
            await self.deliver.writer.stop()


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


class OffersRuntime(Runtime):
    """What the agents that keep features and decide on offers work with."""

    def __init__(self, settings: WorkerSettings, worker: str) -> None:
        super().__init__(settings)
        self.worker = worker
        self.programs = Programs(self.kafka, None)
        self.stats = Stats()

    async def connect(self) -> None:
        await super().connect()
        await self.directory_filled()
        self.store = FeatureStore(self.redis)
        posters = await self.programs.start()
        offers, registry, partitions = OfferStore(self.redis), self.directory.registry, self.settings.partitions
        await restore_offers(offers, self.kafka, posters.timetable, datetime.now(UTC))
        self.champions = Champions(CheckpointStore(self.redis), Signer(self.settings.identity_key.encode()))
        await self.champions.refresh()
        decide = Decide(lambda: posters.timetable, offers, registry, self.routes, self.stats, self.champions, partitions)
        self.observe = Observe(self.store, self.directory, partitions, decide)
        self.regard = Regard(self.store, registry, decide)
        self.forget = Forget(self.store, registry, partitions, offers)

    async def follow_programs(self) -> None:
        """Takes programs that were published meanwhile."""
        if self.started:
            await self.programs.follow()

    async def refresh_champions(self) -> None:
        """Takes models that were learned meanwhile."""
        if self.started:
            await self.champions.refresh()

    async def publish_stats(self) -> None:
        """Lets operators see what was decided."""
        if self.started:
            await self.stats.publish(self.redis, self.worker)

    async def stop(self) -> None:
        if self.started:
            await self.publish_stats()
            self.programs.stop()
        await super().stop()

    async def directory_filled(self) -> None:
        """Waits until a `points` worker has filled the directory: before that nobody would have consented to anything."""
        looks = 0
        while await self.directory.members_offset() is None:
            if looks % DIRECTORY_WARN_LOOKS == 0:
                _log.warning("directory_empty", waits_for="a worker of the role points", seconds=looks * DIRECTORY_LOOK_S)
            looks += 1
            await asyncio.sleep(DIRECTORY_LOOK_S)


class ModelsRuntime(Runtime):
    """What the agent that learns works with."""

    async def connect(self) -> None:
        await super().connect()
        self.learn = Learn(CheckpointStore(self.redis), self.routes, Signer(self.settings.identity_key.encode()))

    async def stop(self) -> None:
        if self.started:
            await self.learn.checkpoint()
        await super().stop()
