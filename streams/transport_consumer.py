"""Faust's consumer on top of the polling thread: rebalances, acknowledgements, commits, hooks.

In: batches and rebalances from `Poller`. Out: `BatchMessage`s to Faust's conductor; committed offsets.

Partitions change hands in this order, and nothing here may be reordered:

revocation  1. no further batch is handed to an agent; what is queued but not started is dropped
            2. started batches end, for at most `revoke_wait_s`
            3. Faust clears its queues and tells the application
            4. the polling thread commits what was acknowledged (never an externally committed topic)
            5. the partitions are given up; later acknowledgements of old batches change nothing
assignment  1. Faust prepares its agents
            2. the application's hooks run, and may override offsets
            3. records flow

Rebalancing is eager: all partitions stop at every rebalance. Faust's own machinery (one flow control for all, queues
cleared as a whole, `perform_seek` over everything) is eager as well, and partly cooperative is not provable.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import CancelledError as FutureCancelled
from typing import TYPE_CHECKING, Any, NoReturn, cast

from faust.exceptions import ConsumerNotStarted, ImproperlyConfigured
from faust.transport import consumer as faust_consumer
from faust.types import TP, Message
from faust.types.transports import TPorTopicSet
from mode import Service, get_logger

from tillstream.streams.transport_inflight import Batch, InFlight
from tillstream.streams.transport_poller import CLOSE_S, Poller
from tillstream.streams.transport_stream import BatchMessage

if TYPE_CHECKING:
    from tillstream.streams.transport import Transport

AssignmentHook = Callable[[set[TP]], Awaitable[Mapping[TP, int]]]

# A started batch may finish at a rebalance or at shutdown; one that takes longer is processed again by the next owner.
REVOKE_WAIT_S = 10.0
# What the polling thread grants beyond that for Faust's own bookkeeping, before it gives up the partitions regardless.
REVOKE_MARGIN_S = 2.0

logger = get_logger(__name__)


class StaleBatch(Exception):
    """The batch belongs to an assignment that has ended: its partition may have another owner by now."""

    def __init__(self, batch: Batch) -> None:
        super().__init__(f"{batch.topic}[{batch.partition}] offsets {batch.first_offset}-{batch.last_offset}")
        self.batch = batch


class Fetcher(faust_consumer.Fetcher):
    """Runs the consumer's delivery loop; Faust starts it after the first assignment."""

    @Service.task
    async def _fetcher(self) -> None:
        await cast(BatchConsumer, self.app.consumer).deliver()


class BatchConsumer(faust_consumer.Consumer):
    """The consumer of `librdkafka://`; see the head of this file for its promises."""

    transport: Transport
    logger = logger

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        transport = self.transport
        if self.app.client_only or self.in_transaction:
            raise ImproperlyConfigured("librdkafka:// serves workers; no RPC clients, no exactly_once mode of Faust's.")
        self.in_flight = InFlight(
            transport.batch_rows_max,
            transport.batch_bytes_max,
            transport.backlog_bytes_max,
            transport.in_flight_bytes_max,
        )
        self._assignment: set[TP] = set()
        self._metadata: object | None = None
        self._generation = 0
        self._topics: set[str] | None = None
        self._poller: Poller | None = None
        self._rebalance_lock = asyncio.Lock()
        self._starting: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._acked_one = asyncio.Event()

    async def on_start(self) -> None:
        """Start the polling thread."""
        self._loop_here = asyncio.get_running_loop()
        config = self.transport.consumer_config()
        log = logging.getLogger("tillstream.librdkafka")
        self._poller = Poller(config, self.in_flight, self, self._committable, log)
        self._poller.start()

    async def on_stop(self) -> None:
        """Commit what was acknowledged, leave the group, end the thread."""
        self.stop_flow()
        await self._cancel_starting()
        if self._poller is not None:
            self._poller.stop()
            await asyncio.to_thread(self._poller.join, CLOSE_S)

    def _running_poller(self) -> Poller:
        if self._poller is None:
            raise ConsumerNotStarted("The consumer has not been started.")
        return self._poller

    # Delivery and acknowledgement

    async def deliver(self) -> None:
        """Hand batches to Faust as they become ready, until the service stops."""
        while not self.should_stop:
            await self._wake.wait()
            self._wake.clear()
            while self.flow_active and self.can_resume_flow.is_set() and (batch := self.in_flight.take()) is not None:
                await self.callback(cast(Message, BatchMessage(batch)))

    def start_batch(self, message: BatchMessage) -> bool:
        """Note that an agent takes up the batch; False where it is stale and must be left alone."""
        if not self.in_flight.start(message.batch):
            return False
        if not message.tracked:
            message.tracked = True
            self._on_message_in(message.tp, message.offset, message)
        return True

    def ack(self, message: Message) -> bool:
        """Mark a batch as processed: its position may be committed, its partition's next batch may come."""
        if message.acked:
            return False
        message.acked = True
        if not self.in_flight.ack(cast(BatchMessage, message).batch):
            return False
        self._loop_here.call_soon_threadsafe(self._on_acked)
        return True

    def _on_acked(self) -> None:
        self._wake.set()
        self._acked_one.set()

    async def wait_empty(self) -> None:
        """Wait until no agent is busy with a batch, at most `revoke_wait_s` seconds; then disown what remains.

        After a crash nothing is waited for: the agent that raised will not acknowledge.
        """
        self.in_flight.withhold()
        deadline = self._loop_here.time() + self.transport.revoke_wait_s
        while busy := self.in_flight.processing():
            left_s = deadline - self._loop_here.time()
            if left_s <= 0 or self.crashed:
                self.log.warning("Batches of %s did not end in time; they will be processed again.", sorted(busy))
                self.in_flight.disown()
                return
            self._acked_one.clear()
            try:
                await asyncio.wait_for(self._acked_one.wait(), left_s)
            except TimeoutError:
                continue

    # Commits

    async def commit(self, topics: TPorTopicSet | None = None, start_new_transaction: bool = True) -> bool:
        """Send the positions of all acknowledged batches to the broker; False where there is nothing new."""
        if self._poller is None or not self.in_flight.committable():
            return False
        try:
            return await asyncio.wrap_future(self._poller.commit())
        except (RuntimeError, FutureCancelled):
            # The consumer was closed meanwhile, which has committed.
            return False

    def _committable(self) -> dict[TP, int]:
        external = self.transport.externally_committed_topics
        acking = self.app.topics.acks_enabled_for
        return {tp: offset for tp, offset in self.in_flight.committable().items() if tp.topic not in external and acking(tp.topic)}

    def consumer_group_metadata(self, batch: Batch | None = None) -> object:
        """What `Producer.send_offsets_to_transaction` wants, of the assignment that `batch` was fetched under.

        Always pass the batch. The broker fences by generation only: a batch that outlived its partition must not be
        committed under the metadata of a later assignment, so this raises `StaleBatch`.
        """
        if batch is not None and (batch.generation != self._generation or self._metadata is None):
            raise StaleBatch(batch)
        if self._metadata is None:
            raise ConsumerNotStarted("Nothing is assigned.")
        return self._metadata

    # Rebalances: the polling thread's side (`Listener`)

    def ready(self) -> None:
        """Wake the delivery loop."""
        self._loop_here.call_soon_threadsafe(self._wake.set)

    def assigned(self, partitions: set[TP], generation: int, metadata: object) -> None:
        """Prepare an assignment in the event loop."""
        asyncio.run_coroutine_threadsafe(self._assign(partitions, generation, metadata), self._loop_here)

    def revoking(self, partitions: set[TP]) -> None:
        """Wait until the event loop has let go of `partitions`."""
        done = asyncio.run_coroutine_threadsafe(self._revoke(partitions, wait=True), self._loop_here)
        try:
            done.result(self.transport.revoke_wait_s + REVOKE_MARGIN_S)
        except (TimeoutError, FutureCancelled):
            # What is not acknowledged is not committed, so giving up is safe; it only means work done twice.
            self.log.error("The event loop did not let go of %s in time.", sorted(partitions))

    def lost(self, partitions: set[TP]) -> None:
        """Tell the event loop that `partitions` are gone."""
        asyncio.run_coroutine_threadsafe(self._revoke(partitions, wait=False), self._loop_here)

    def failed(self, reason: BaseException) -> None:
        """Crash the worker."""
        asyncio.run_coroutine_threadsafe(self.crash(reason), self._loop_here)

    # Rebalances: the event loop's side

    async def _revoke(self, partitions: set[TP], *, wait: bool) -> None:
        async with self._rebalance_lock:
            await self._cancel_starting()
            cast(Any, self.app).on_rebalance_start()
            self.stop_flow()
            if wait:
                await self.wait_empty()
            await self.on_partitions_revoked(partitions)
            self._assignment = set()
            self._metadata = None

    async def _assign(self, partitions: set[TP], generation: int, metadata: object) -> None:
        async with self._rebalance_lock:
            self.stop_flow()
            if not self.app.rebalancing:
                cast(Any, self.app).on_rebalance_start()
            self._generation = generation
            self._metadata = metadata
            self._assignment = partitions
            self.app.consumer_generation_id = generation
            await self.on_partitions_assigned(set(partitions), generation)
            self._starting = asyncio.create_task(self._start(partitions, generation))

    async def _start(self, partitions: set[TP], generation: int) -> None:
        try:
            offsets: dict[TP, int | None] = dict.fromkeys(partitions)
            for hook in self.transport.assignment_hooks if partitions else ():
                offsets.update({tp: offset for tp, offset in (await hook(set(partitions))).items() if tp in partitions})
            await asyncio.wrap_future(self._running_poller().begin(offsets, generation))
        except Exception as reason:
            await self.crash(reason)

    async def _cancel_starting(self) -> None:
        starting, self._starting = self._starting, None
        if starting is not None and not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)

    # What Faust asks of any consumer

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group for `topics`; nothing, where they are subscribed already."""
        # Faust repeats itself 45 s after any change of its agents; subscribing again would rebalance the group.
        names = set(topics)
        if names and names != self._topics:
            self._topics = names
            await asyncio.wrap_future(self._running_poller().subscribe(names))

    def resume_flow(self) -> None:
        """Let batches through: Faust calls this when it has cleared its queues after an assignment."""
        super().resume_flow()
        self._wake.set()

    def assignment(self) -> set[TP]:
        """The partitions of the current assignment."""
        return set(self._assignment)

    async def perform_seek(self) -> None:
        """Nothing: the positions are set when records begin to flow."""

    async def position(self, tp: TP) -> int | None:
        """Offset of the next record to process; None before the first batch was acknowledged."""
        return self.in_flight.positions().get(tp)

    def highwater(self, tp: TP) -> int:
        """Not known here."""
        return -1

    def topic_partitions(self, topic: str) -> int | None:
        """Not known here."""
        return None

    def close(self) -> None:
        """Nothing: `on_stop` closes."""

    async def create_topic(self, topic: str, partitions: int, replication: int, **options: Any) -> None:
        """Create a topic through the producer, whose options these are."""
        await self.app.producer.create_topic(topic, partitions, replication, **options)

    def _unsupported(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError("librdkafka:// has assignment hooks instead of seeks, and no tables.")

    _commit = _seek = seek = seek_wait = seek_to_committed = _unsupported
    _getmany = earliest_offsets = highwaters = key_partition = _unsupported
    _new_topicpartition = _to_message = _unsupported
