"""What the agents of the roles `offers` and `models` work with: features, programs, decisions, and the models that they are made by."""

import asyncio
from datetime import UTC, datetime
from time import time_ns

import structlog

from tillstream.models.checkpoints import Signer
from tillstream.sinks.carts import CartStore
from tillstream.sinks.checkpoints import CheckpointStore
from tillstream.sinks.features import FeatureStore
from tillstream.sinks.offer_view import OfferView
from tillstream.sinks.offers import OfferStore
from tillstream.streams.abandon import Abandon
from tillstream.streams.decide import Decide
from tillstream.streams.figures import serve
from tillstream.streams.forget import Forget
from tillstream.streams.learn import Learn
from tillstream.streams.observe import Observe
from tillstream.streams.offer_metrics import OfferMetrics
from tillstream.streams.offers_restore import restore_offers
from tillstream.streams.persons import Persons
from tillstream.streams.programs import Programs
from tillstream.streams.regard import Regard
from tillstream.streams.runtime import Runtime, WorkerSettings
from tillstream.streams.scoring import Champions
from tillstream.streams.stats import Stats

DIRECTORY_LOOK_S = 0.5
DIRECTORY_WARN_LOOKS = 30
"""Between two lines in the log there are so many looks: a quarter of a minute."""

_log = structlog.get_logger(__name__)


class OffersRuntime(Runtime):
    """What the agents that keep features and decide on offers work with."""

    def __init__(self, settings: WorkerSettings, worker: str) -> None:
        super().__init__(settings)
        self.worker = worker
        self.programs = Programs(self.kafka, None)
        self.stats = Stats()

    async def connect(self) -> None:
        await super().connect()
        if self.settings.offers_metrics:
            serve(OfferMetrics(self.stats).registry, self.settings.offers_metrics)
        await self.directory_filled()
        self.store = FeatureStore(self.redis)
        posters = await self.programs.start()
        view, registry, partitions = OfferView(self.redis), self.directory.registry, self.settings.partitions
        offers = OfferStore(self.redis, await restore_offers(view, registry, self.kafka, posters.timetable, datetime.now(UTC)))
        self.champions = Champions(CheckpointStore(self.redis), Signer(self.settings.identity_key.encode()))
        await self.champions.refresh()
        decide = Decide(lambda: posters.timetable, offers, registry, self.routes, self.stats, self.champions, partitions)
        carts = CartStore(self.redis)
        self.abandon = Abandon(self.store, carts, Persons(registry), partitions, decide)
        events_max = self.settings.visitor_events_max
        self.observe = Observe(self.store, self.directory, partitions, events_max, self.stats, decide, self.abandon)
        self.regard = Regard(self.store, registry, decide, carts)
        self.forget = Forget(self.store, registry, partitions, view)

    async def follow_programs(self) -> None:
        """Takes programs that were published meanwhile."""
        if self.started:
            await self.programs.follow()

    async def refresh_champions(self) -> None:
        """Takes models that were learned meanwhile."""
        if self.started:
            await self.champions.refresh()

    async def look_for_carts(self, partitions: list[int]) -> None:
        """Decides on carts that were left, of these partitions of `clickstream`."""
        if self.started:
            await self.abandon.look(partitions, time_ns() // 1_000_000)

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
