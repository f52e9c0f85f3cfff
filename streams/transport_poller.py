"""The polling thread: the only code that touches librdkafka's consumer.

In: records, rebalances and commit reports from librdkafka, and calls from the event loop (`call`). Out: records to
`InFlight`, rebalances and crashes to a `Listener`.

librdkafka's functions may be called from any thread, but its rebalance callbacks run inside `consume` and must finish
before partitions change hands; so one thread does both, and others queue what they want with `call`. The thread
releases the GIL while it waits for records.

An assignment begins in two steps. The callback assigns *nothing* and notes the group metadata, whose generation is
certain there; the records of an assignment start to flow when the event loop has run its hooks and calls `begin` with
the offsets to start from. A revocation inside the two voids the first.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from confluent_kafka import OFFSET_STORED, Consumer, KafkaError, KafkaException, TopicPartition
from faust.types import TP

from tillstream.streams.transport_inflight import InFlight

T = TypeVar("T")

# A call from the event loop (commit, begin) waits for the running poll; records never wait, so this may be long.
POLL_S = 0.05
# While a partition is paused it has to be resumed soon after its agent catches up, so polls are short.
POLL_PAUSED_S = 0.01
# librdkafka throws away what it has prefetched of a partition when that is paused, and fetches it again. So a full
# partition is waited for before it is paused: shortly where others could go on meanwhile, ...
GRACE_SOME_S = 0.05
# ... longer where none could; this still serves rebalances far within any poll interval.
GRACE_ALL_S = 0.5
# Closing leaves the group and ends the broker connections; beyond this the thread is left to the end of the process.
CLOSE_S = 15.0

# These pass by themselves, or when somebody creates the topic; librdkafka goes on by itself.
TRANSIENT_ERRORS = frozenset(
    {
        KafkaError._PARTITION_EOF,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
    }
)


class Listener(Protocol):
    """Who hears of rebalances. Called in the polling thread."""

    def ready(self) -> None:
        """A batch can be taken."""

    def assigned(self, partitions: set[TP], generation: int, metadata: object) -> None:
        """Prepare `partitions`, then call `Poller.begin`; must not wait."""

    def revoking(self, partitions: set[TP]) -> None:
        """Return when nothing of `partitions` is being processed, or after a bounded time."""

    def lost(self, partitions: set[TP]) -> None:
        """`partitions` belong to somebody else already; must not wait."""

    def failed(self, reason: BaseException) -> None:
        """The thread ends."""


class Poller(threading.Thread):
    """Polls one consumer until `stop`; `config` is librdkafka's."""

    def __init__(
        self,
        config: Mapping[str, Any],
        in_flight: InFlight,
        listener: Listener,
        committable: Callable[[], dict[TP, int]],
        logger: logging.Logger,
    ) -> None:
        super().__init__(name="tillstream-poller", daemon=True)
        self._in_flight = in_flight
        self._listener = listener
        self._committable = committable
        self._log = logger
        self._calls: queue.SimpleQueue[tuple[Callable[[Consumer], Any], Future[Any]]] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._paused: set[TP] = set()
        self._generation = 0
        self._fatal: KafkaException | None = None
        callbacks = {"on_commit": self._on_commit, "error_cb": self._on_error}
        self._consumer = Consumer({**config, **callbacks}, logger=logger)

    # Called from the event loop

    def call(self, function: Callable[[Consumer], T]) -> Future[T]:
        """Run `function(consumer)` in the polling thread, between two polls."""
        future: Future[T] = Future()
        self._calls.put((function, future))
        return future

    def subscribe(self, topics: Iterable[str]) -> Future[None]:
        """Join the group for `topics`."""
        names = sorted(topics)
        return self.call(
            lambda consumer: consumer.subscribe(names, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
        )

    def begin(self, offsets: Mapping[TP, int | None], generation: int) -> Future[bool]:
        """Fetch from `offsets` (None: the committed one), unless a rebalance has ended `generation` meanwhile."""

        def begin(consumer: Consumer) -> bool:
            if generation != self._generation:
                return False
            self._in_flight.begin(offsets, generation)
            self._paused.clear()
            consumer.assign(
                [TopicPartition(tp.topic, tp.partition, OFFSET_STORED if offset is None else offset) for tp, offset in offsets.items()]
            )
            return True

        return self.call(begin)

    def commit(self) -> Future[bool]:
        """Send what is committable to the broker, without waiting for its answer."""
        return self.call(lambda consumer: self._commit(wait=False))

    def stop(self) -> None:
        """Ask the thread to commit, leave the group and end; does not wait for it."""
        self._closing.set()

    # The thread

    def run(self) -> None:
        """Poll until stopped; commit what was processed; leave the group."""
        try:
            while not self._closing.is_set():
                self._run_calls()
                self._shape_flow()
                self._poll()
        except BaseException as reason:
            self._log.exception("The polling thread crashed.")
            self._listener.failed(reason)
        finally:
            self._closing.set()
            try:
                self._commit(wait=True)
            finally:
                self._consumer.close()
                self._run_calls()

    def _poll(self) -> None:
        # `consume(n, t)` waits the whole t unless n records arrive, so the wait is for the first only.
        messages = self._consumer.consume(1, POLL_PAUSED_S if self._paused else POLL_S)
        if messages:
            messages += self._consumer.consume(self._in_flight.batch_rows_max - 1, 0)
            if self._in_flight.receive(self._without_errors(messages)):
                self._listener.ready()
        if self._fatal is not None:
            raise self._fatal

    def _without_errors(self, messages: list[Any]) -> list[Any]:
        errors = [message.error() for message in messages if message.error() is not None]
        if not errors:
            return messages
        for error in errors:
            if error.code() not in TRANSIENT_ERRORS and not error.retriable():
                raise KafkaException(error)
            self._log.warning("Kafka reports %s; going on.", error)
        return [message for message in messages if message.error() is None]

    def _shape_flow(self) -> None:
        full = self._in_flight.full()
        if not full.issubset(self._paused):
            full = self._in_flight.wait_for_room(self._paused, GRACE_SOME_S, GRACE_ALL_S)
        roomy = self._paused - full
        crowded = full - self._paused
        if roomy:
            self._consumer.resume([TopicPartition(*tp) for tp in roomy])
        if crowded:
            self._consumer.pause([TopicPartition(*tp) for tp in crowded])
        self._paused = full

    def _run_calls(self) -> None:
        while not self._calls.empty():
            function, future = self._calls.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if self._closing.is_set():
                    raise RuntimeError("The consumer is closed.")
                future.set_result(function(self._consumer))
            except Exception as reason:
                future.set_exception(reason)

    # Callbacks, run by librdkafka inside `consume` and `close`

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign([])
        self._generation += 1
        self._paused.clear()
        # Taken here, because a generation read after the member lost its place would be -1, which fences nothing.
        self._listener.assigned(_tps(partitions), self._generation, consumer.consumer_group_metadata())

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if not self._closing.is_set():
            # 1. No batch is started any more, and the started ones end; 2. commit; 3. give up.
            self._listener.revoking(_tps(partitions))
            self._commit(wait=True)
        self._give_up(consumer)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._give_up(consumer)
        if not self._closing.is_set():
            self._listener.lost(_tps(partitions))

    def _give_up(self, consumer: Consumer) -> None:
        self._generation += 1
        self._in_flight.begin((), self._generation)
        self._paused.clear()
        consumer.unassign()

    def _commit(self, *, wait: bool) -> bool:
        offsets = self._committable()
        if not offsets:
            return False
        partitions = [TopicPartition(tp.topic, tp.partition, offset) for tp, offset in offsets.items()]
        try:
            self._consumer.commit(offsets=partitions, asynchronous=not wait)
        except KafkaException as reason:
            self._log.warning("Offsets could not be committed; their records may come again: %s", reason)
            return False
        if wait:
            self._in_flight.committed(offsets)
        return True

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        failed = error or next((partition.error for partition in partitions if partition.error), None)
        if failed is not None:
            # Nothing is lost: the position stays committable and the next interval tries again.
            self._log.warning("Offsets were not committed: %s", failed)
            return
        self._in_flight.committed({TP(p.topic, p.partition): p.offset for p in partitions})

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = KafkaException(error)
        else:
            self._log.warning("Kafka reports %s; going on.", error)


def _tps(partitions: list[TopicPartition]) -> set[TP]:
    return {TP(partition.topic, partition.partition) for partition in partitions}
