"""The ledger's tail into Redis: what was appended and not applied before a crash, or everything, where Redis was emptied (G5).

On assignment, per partition of `transactions`: read `ledger`, same partition number, from behind the last offset that Redis has applied to
its end; apply it, fenced as always; start consuming behind the last source offset that is in the ledger, whatever the consumer group has
committed. Records that stand twice (a writer without transactions died between appending and applying) count once, by their ids.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.ledger import Posting, Refused, Waiting, decode_record
from tillstream.sinks.state import Standing, StateStore
from tillstream.streams.topics import LEDGER

REPLAY_ROWS_MAX = 2_000
"""Ledger records per step of a replay: bounds its memory and its function call."""

ANSWER_S = 10.0

SILENT_S = 60.0
"""A dead worker's open transaction hides what comes after it for `TRANSACTION_MS`, and ten seconds until the broker looks for such."""

POLL_S = 0.05


class Tail(NamedTuple):
    """Ledger records and the offset of the last."""

    records: list[tuple[bytes, Posting | Waiting | Refused]]
    last: int


class Recovery:
    """Applies what the ledger has and Redis has not."""

    def __init__(self, state: StateStore, consumer_settings: Mapping[str, Any]) -> None:
        self.state = state
        self.consumer_settings = consumer_settings

    async def recover(self, partition: int) -> int:
        """Brings one partition up to its ledger; gives the source offset to go on from."""
        standing = await self.state.standing(partition)
        seen_ticks: set[str] = set()
        tails = whole_offsets(read_ledger(self.consumer_settings, partition, standing.ledger + 1))
        # In a thread: waiting for a dead worker's transaction to end must not keep a rebalance waiting.
        while (tail := await asyncio.to_thread(next, tails, None)) is not None:
            standing = await self.apply(partition, tail, standing, seen_ticks)
        return standing.offset + 1

    async def apply(self, partition: int, tail: Tail, standing: Standing, seen_ticks: set[str]) -> Standing:
        """One step of the replay; where the partition stands afterwards."""
        records = [record for _, record in tail.records]
        postings = [record for record in records if isinstance(record, Posting)]
        named = [record.posting_id if isinstance(record, Posting) else record.sale_id for record in records]
        snapshot, before = await self.state.load_keys(
            partition,
            {posting.account_id for posting in postings if posting.account_id is not None},
            named,
            [posting.reverses_posting for posting in postings if posting.reverses_posting],
            named,
        )
        for raw, record in tail.records:
            if not is_repeated(record, snapshot, seen_ticks):
                snapshot.apply(record, raw)
        closed = [record.offset for record in records if isinstance(record, Waiting) or record.closes]
        after = Standing(max([standing.offset, *closed]), tail.last, snapshot.as_of)
        await self.state.apply(partition, snapshot, before, after)
        return after


def is_repeated(record: Posting | Waiting | Refused, snapshot: Snapshot, seen_ticks: set[str]) -> bool:
    """Whether the snapshot has the effect of `record` already; ticks, which leave no posting behind, are noted in `seen_ticks`."""
    if isinstance(record, Waiting):
        return record.sale_id in snapshot.postings  # It waits no more.
    if isinstance(record, Refused):
        return False
    if record.kind != "tick":
        return record.posting_id in snapshot.postings
    seen = record.posting_id in seen_ticks
    seen_ticks.add(record.posting_id)
    return seen


def read_ledger(settings: Mapping[str, Any], partition: int, first: int) -> Iterator[Message]:
    """The ledger of one partition from offset `first` to the end that it has now; `settings` is librdkafka's."""
    return read_topic(settings, LEDGER, partition, first)


def read_topic(settings: Mapping[str, Any], topic: str, partition: int, first: int) -> Iterator[Message]:
    """The committed records of one partition from offset `first` to the end that it has now, without joining a group.

    Raises:
        KafkaException: the broker fails, or is silent for `SILENT_S`.
    """
    # Out of range must not mean "go on at the end", which is librdkafka's default: that would skip records without a word.
    fetching = {"auto.offset.reset": "error", "enable.partition.eof": True, "fetch.wait.max.ms": 50}
    consumer = Consumer({**settings, **fetching, "group.id": "tillstream-reader", "enable.auto.commit": False})
    place = TopicPartition(topic, partition)
    try:
        low, high = consumer.get_watermark_offsets(place, timeout=ANSWER_S)
        at, ended, silent_s = max(low, first), False, 0.0
        if at >= high:
            return
        consumer.assign([TopicPartition(topic, partition, at)])
        # Both: the embedded broker's `high` leaves out the last batch but for its first record, and the end of what is committed may lie
        # before an open transaction.
        while at < high or not ended:
            messages = consumer.consume(REPLAY_ROWS_MAX, POLL_S)
            for message in messages:
                ended = is_end(message)
                at = max(at, (message.offset() or 0) + (not ended))
                if not ended:
                    yield message
            # Behind the last record there may be only a transaction's marker, which no consumer sees but its position passes.
            at = max(at, consumer.position([place])[0].offset)
            silent_s = 0.0 if messages else silent_s + POLL_S
            if silent_s > SILENT_S:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{topic} {partition}: nothing between {at} and {high}"))
    finally:
        consumer.close()


def is_end(message: Message) -> bool:
    """Whether it is no record but says that there are no more for now.

    Raises:
        KafkaException: it is an error.
    """
    error = message.error()
    if error is not None and error.code() != KafkaError._PARTITION_EOF:
        raise KafkaException(error)
    return error is not None


def whole_offsets(messages: Iterator[Message]) -> Iterator[Tail]:
    """Steps that end where all records of a source offset are there; an unfinished rest is left out: its event is judged again."""
    records: list[tuple[bytes, Posting | Waiting | Refused]] = []
    whole, last = 0, -1
    for message in messages:
        raw = message.value() or b""
        record = decode_record(raw)
        records.append((raw, record))
        if isinstance(record, Waiting) or record.closes or (isinstance(record, Posting) and record.kind == "tick"):
            whole, last = len(records), message.offset() or 0
        if whole >= REPLAY_ROWS_MAX:
            yield Tail(records[:whole], last)
            records, whole = records[whole:], 0
    if whole:
        yield Tail(records[:whole], last)
