"""What the agent of the role `deliver` works with."""

from collections.abc import Sequence

from confluent_kafka import Message

from tillstream.sinks.delivery.target import Target
from tillstream.sinks.delivery.webhook import Poster
from tillstream.sinks.directory import Directory
from tillstream.sinks.redis import connect
from tillstream.sinks.writer import Writer
from tillstream.streams.agreement import Agreement
from tillstream.streams.deliver import Deliver
from tillstream.streams.delivery_metrics import DeliveryMetrics
from tillstream.streams.figures import serve
from tillstream.streams.runtime import WorkerSettings

REDIS_S_MAX = 2.0
"""An attempt waits no longer for Redis; the delivery is held, and others have their turn."""


class DeliverRuntime:
    """What the agent that delivers triggers works with: Kafka, the endpoints, and in Redis who still agrees.

    Raises:
        OSError, OverflowError: figures cannot be served on `deliver_metrics`.
    """

    def __init__(self, settings: WorkerSettings, targets: Sequence[Target]) -> None:
        self.settings = settings
        self.targets = targets
        self.kafka = {"bootstrap.servers": settings.kafka, **settings.kafka_security}
        self.metrics = DeliveryMetrics()
        if settings.deliver_metrics:
            serve(self.metrics.registry, settings.deliver_metrics)
        self.deliver: Deliver | None = None

    async def recover(self, partitions: list[int]) -> dict[int, int]:
        """Takes up what waits in these partitions; the offsets of the triggers to go on from, where they are known."""
        if self.deliver is None:
            writer = Writer(self.kafka)
            await writer.start()
            self.redis = connect(self.settings.redis, REDIS_S_MAX, self.settings.redis_ca)
            agreement = Agreement(Directory(self.redis))
            self.deliver = Deliver(self.targets, writer, Poster(self.settings.deliver_private), self.metrics, agreement)
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
            await self.redis.aclose()
