"""Kafka out: batches of records appended together, with group commit.

Delivery: with a transactional id, all records of a group and the consumed offsets are committed together or not at all, and the consumer
group's metadata fences a writer that has lost its partitions. Without one (the embedded broker has no transactions), records are
idempotent per session and at least once across a crash: readers tell repeats by the records' ids.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from tillstream.sinks.steps import Steps

GROUP_MAX = 64
"""Appends in one group: one per partition in progress, and then some."""

COMMIT_S = 30.0
"""Longer than a broker's election; a group that takes more is given up, and the worker restarts. Of transactions see sinks/steps.py."""

QUEUE_FULL_S = 0.5

TRANSACTION_MS = 10_000
"""A dead worker's open transaction holds up readers for this long."""

PRODUCER = {
    "enable.idempotence": True,
    # As Java's and aiokafka's producers do it; librdkafka's own default would send an account elsewhere.
    "partitioner": "murmur2_random",
    # Every append ends with a flush, which waits for nothing; until then waiting only makes batches larger.
    "linger.ms": 100,
    "compression.type": "lz4",
    # A refused record of the largest size, in base64, with its reason.
    "message.max.bytes": 12 * 1024 * 1024,
    "queue.buffering.max.kbytes": 128 * 1024,
}

LEDGER_PRODUCER = {
    # All records of a batch in one message set: what cuts them up into megabytes costs more than sending them. For topics that take it.
    "batch.size": 4 * 1024 * 1024,
}

ANY = -1
"""The partition of a record that goes by its key."""


class Record(NamedTuple):
    """One record to append; `partition` is ANY where the key decides, `timestamp_ms` 0 where now will do."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int = ANY
    timestamp_ms: int = 0


class Consumed(NamedTuple):
    """The offset to commit for what the records were made from."""

    topic: str
    partition: int
    next_offset: int


class WriteFailed(Exception):
    """Records were not appended, or it is not known; the batch must be judged again from a fresh snapshot."""


Told = dict[KafkaError | None, Message]
"""What the broker told of a partition's records: the last one that was appended, under None, and the last that met each error."""


class _Append(NamedTuple):
    records: Sequence[Record]
    consumed: Consumed | None
    membership: object
    done: asyncio.Future[dict[str, int]]
    places: set[tuple[str, int]]
    """Where the records went; filled as they are handed over."""


class Writer:
    """Appends batches; those that arrive while a group is being committed go together in the next."""

    def __init__(self, settings: dict[str, Any], transactional_id: str | None = None) -> None:
        transactional = {"transactional.id": transactional_id, "transaction.timeout.ms": TRANSACTION_MS} if transactional_id else {}
        # What is given up must not arrive later; librdkafka would try for five minutes.
        patience = {"message.timeout.ms": TRANSACTION_MS if transactional_id else int(COMMIT_S * 1000)}
        self.producer = Producer({**PRODUCER, **patience, **settings, **transactional})
        self.transactional = transactional_id is not None
        self.queue: asyncio.Queue[_Append | None] = asyncio.Queue(GROUP_MAX)
        self.thread = ThreadPoolExecutor(1, "kafka-writer")
        self.steps = Steps()
        self.task: asyncio.Task[None] | None = None
        self.watch: asyncio.Task[None] | None = None
        self.told: defaultdict[tuple[str, int], Told] = defaultdict(dict)
        self.stopped = False

    async def start(self) -> None:
        """Fences earlier writers of the same transactional id, and begins to take appends."""
        if self.transactional:
            self.watch = asyncio.create_task(self.steps.watch())
            await asyncio.get_running_loop().run_in_executor(self.thread, self.producer.init_transactions, COMMIT_S)
        self.task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends after the appends so far; further ones fail."""
        self.stopped = True
        if self.task is not None:
            await self.queue.put(None)
            await self.task
        self.thread.shutdown(wait=True)
        if self.watch is not None:
            self.watch.cancel()

    async def append(
        self, records: Iterable[Record], consumed: Consumed | None = None, membership: object = None
    ) -> dict[str, int]:
        """Appends `records`; gives the last offset per topic, of the records with a fixed partition.

        `membership` is the consumer group's metadata under which they were read: the broker refuses a transaction under an old one.

        Raises:
            WriteFailed: nothing of it is to be relied on.
        """
        if self.stopped:
            raise WriteFailed("the writer has stopped")
        done: asyncio.Future[dict[str, int]] = asyncio.get_running_loop().create_future()
        await self.queue.put(_Append(list(records), consumed, membership, done, set()))
        return await done

    async def _run(self) -> None:
        held: _Append | None = None
        while (first := held or await self.queue.get()) is not None:
            group, held = self._grouped(first)
            failure: Exception | None = None
            try:
                await asyncio.get_running_loop().run_in_executor(self.thread, self._commit, group)
            except Exception as error:  # Whatever it was, nobody may wait for ever.
                failure = error
            for append in group:
                if append.done.done():  # Whoever waited was cancelled.
                    continue
                if failure is not None:
                    append.done.set_exception(WriteFailed(str(failure)))
                else:
                    append.done.set_result(self._places(append))

    def _grouped(self, first: _Append) -> tuple[list[_Append], _Append | None]:
        """What goes in one commit with `first`, and what was taken from the queue beyond it."""
        group = [first]
        while len(group) < GROUP_MAX and not self.queue.empty():
            following = self.queue.get_nowait()
            if following is None:
                self.queue.put_nowait(None)
                break
            if following.membership is not first.membership:
                return group, following
            group.append(following)
        return group, None

    def _places(self, append: _Append) -> dict[str, int]:
        return {topic: self._last(topic, partition) for topic, partition in sorted(append.places)}

    def _last(self, topic: str, partition: int) -> int:
        """The last offset appended to a partition, -1 where there is none, or the key decides."""
        told = self.told[topic, partition].get(None)
        return -1 if told is None or partition == ANY else told.offset() or 0

    def _commit(self, group: list[_Append]) -> None:
        """One transaction, or one flush, for the whole group; runs in the writer's thread."""
        self.told.clear()
        if self.transactional:
            self.producer.begin_transaction()
        try:
            for append in group:
                self._produce(append)
            if self.transactional:
                self._commit_transaction([append.consumed for append in group if append.consumed], group[0].membership)
            elif self.producer.flush(COMMIT_S) > 0:
                raise KafkaException(KafkaError(KafkaError._MSG_TIMED_OUT))
        except Exception as error:
            if not self.transactional:
                self.producer.flush(COMMIT_S)  # Else the next group would be told of what became of this one.
            elif not (isinstance(error, KafkaException) and error.args[0].fatal()):
                self.steps.take(self.producer.abort_transaction)
            raise
        for failed in (error for told in self.told.values() for error in told if error is not None):
            raise KafkaException(failed)

    def _commit_transaction(self, consumed: list[Consumed], membership: object) -> None:
        if consumed:
            offsets = [TopicPartition(place.topic, place.partition, place.next_offset) for place in consumed]
            self.steps.take(self.producer.send_offsets_to_transaction, offsets, membership)
        self.steps.take(self.producer.commit_transaction)

    def _produce(self, append: _Append) -> None:
        """Hands records over; what becomes of each goes into `told` by a built-in, since there may be a hundred thousand a second."""
        produce, told, places = self.producer.produce, self.told, append.places
        place: tuple[str, int] | None = None
        for topic, key, value, partition, timestamp_ms in append.records:
            if (topic, partition) != place:  # They come in runs.
                place = topic, partition
                places.add(place)
                note = told[place].__setitem__
            while True:
                try:
                    produce(topic, value, key, partition, note, timestamp=timestamp_ms)
                    break
                except BufferError:
                    self.producer.poll(QUEUE_FULL_S)
