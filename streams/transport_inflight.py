"""What was fetched and is not acknowledged yet: the transport's only state about offsets.

In: the raw messages of every poll, from the polling thread. Out: one `Batch` of one partition at a time, to the event
loop; and the offsets that are safe to commit. A partition has at most one batch with its agent and one backlog behind
it, so batches of one partition are strictly one after another while those of other partitions go on:

    broker ── backlog (≤ backlog_bytes_max) ── current (≤ batch_rows_max, ≤ batch_bytes_max) ── position (committable)
              fetched                          queued ─ started ─ acknowledged

The position moves in `ack` only, to `last_offset + 1` of the batch that was acknowledged. There is no gap to fill and
nothing to sort: what lies before `current` is done, what lies in it or behind it is not.

Every method takes the lock, so both threads may call any of them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from faust.types import TP

# A record's key, headers and Python objects weigh about this much beside its value; used for accounting only.
RECORD_OVERHEAD_BYTES = 300


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Consecutive records of one partition, as librdkafka handed them over; the value of one Faust event.

    `messages` are `confluent_kafka.Message`: `value()`, `key()`, `headers()`, `timestamp()`, `offset()`. Offsets may
    have holes (transaction markers, compaction) but always rise. `generation` names the assignment it was fetched
    under: after a rebalance the batch is stale, and `Consumer.consumer_group_metadata(batch)` refuses it.
    """

    topic: str
    partition: int
    messages: list[Any]
    first_offset: int
    last_offset: int
    generation: int = 0

    def __len__(self) -> int:
        """The number of records."""
        return len(self.messages)


@dataclass(slots=True)
class _Partition:
    backlog: deque[Any] = field(default_factory=deque)
    backlog_bytes: int = 0
    current: Batch | None = None
    current_bytes: int = 0
    started: bool = False
    position: int | None = None
    committed: int | None = None


class InFlight:
    """Fetched records of the assigned partitions, bounded by rows and bytes.

    `batch_rows_max` and `batch_bytes_max` bound one batch, `backlog_bytes_max` what waits behind it, `bytes_max`
    everything together. A single poll may overshoot by what it returns, at most `batch_rows_max` rows.

    librdkafka hands out the partitions' fetches one after another, a megabyte of one and then a megabyte of the next,
    so a backlog should hold several fetches: else one partition's would hold up all the others'.
    """

    def __init__(self, batch_rows_max: int, batch_bytes_max: int, backlog_bytes_max: int, bytes_max: int) -> None:
        self.batch_rows_max = batch_rows_max
        self.batch_bytes_max = batch_bytes_max
        self.backlog_bytes_max = backlog_bytes_max
        self.bytes_max = bytes_max
        self._partitions: dict[TP, _Partition] = {}
        self._ready: deque[TP] = deque()
        self._changed = threading.Condition()
        self._generation = 0

    def begin(self, partitions: Iterable[TP], generation: int) -> None:
        """Forget everything and accept records of `partitions`, on behalf of assignment `generation`."""
        with self._changed:
            self._partitions = {tp: _Partition() for tp in partitions}
            self._ready.clear()
            self._generation = generation

    def receive(self, messages: Iterable[Any]) -> bool:
        """File freshly polled records; say whether a batch became ready.

        Records of partitions that are not assigned are dropped: a poll that serves a rebalance callback may still
        return what it had collected before.
        """
        became_ready = False
        tp = TP("", -1)
        state: _Partition | None = None
        with self._changed:
            for message in messages:
                # Records arrive in runs of one partition, so most need no look-up.
                if message.partition() != tp.partition or message.topic() != tp.topic:
                    tp = TP(message.topic(), message.partition())
                    state = self._partitions.get(tp)
                if state is None:
                    continue
                if not state.backlog and state.current is None:
                    self._ready.append(tp)
                    became_ready = True
                state.backlog.append(message)
                state.backlog_bytes += len(message) + RECORD_OVERHEAD_BYTES
        return became_ready

    def take(self) -> Batch | None:
        """Cut the next batch, of the partition that has waited longest; None where nothing waits."""
        with self._changed:
            if not self._ready:
                return None
            tp = self._ready.popleft()
            state = self._partitions[tp]
            messages, size = self._cut(state)
            state.current = Batch(tp.topic, tp.partition, messages, messages[0].offset(), messages[-1].offset(), self._generation)
            state.current_bytes = size
            state.started = False
            self._changed.notify_all()
            return state.current

    def _cut(self, state: _Partition) -> tuple[list[Any], int]:
        backlog = state.backlog
        if len(backlog) <= self.batch_rows_max and state.backlog_bytes <= self.batch_bytes_max:
            messages, size = list(backlog), state.backlog_bytes
            backlog.clear()
            state.backlog_bytes = 0
            return messages, size
        messages, size = [], 0
        while backlog and len(messages) < self.batch_rows_max:
            weight = len(backlog[0]) + RECORD_OVERHEAD_BYTES
            # A single record above the limit still travels, alone.
            if messages and size + weight > self.batch_bytes_max:
                break
            messages.append(backlog.popleft())
            size += weight
        state.backlog_bytes -= size
        return messages, size

    def start(self, batch: Batch) -> bool:
        """Note that an agent takes up `batch`; False where it is stale, and must be skipped."""
        with self._changed:
            state = self._current(batch)
            if state is None:
                return False
            state.started = True
            return True

    def ack(self, batch: Batch) -> bool:
        """Note that `batch` was processed; False where it was stale, which changes nothing."""
        with self._changed:
            state = self._current(batch)
            if state is None:
                return False
            state.position = batch.last_offset + 1
            state.current, state.current_bytes, state.started = None, 0, False
            if state.backlog:
                self._ready.append(TP(batch.topic, batch.partition))
            self._changed.notify_all()
            return True

    def _current(self, batch: Batch) -> _Partition | None:
        state = self._partitions.get(TP(batch.topic, batch.partition))
        return state if state is not None and state.current is batch else None

    def withhold(self) -> None:
        """Drop what no agent has started on; what remains is being processed and may still be acknowledged."""
        with self._changed:
            self._ready.clear()
            for state in self._partitions.values():
                state.backlog.clear()
                state.backlog_bytes = 0
                if not state.started:
                    state.current, state.current_bytes = None, 0
            self._changed.notify_all()

    def disown(self) -> None:
        """Let go of the started batches as well: their acknowledgements will change nothing."""
        with self._changed:
            for state in self._partitions.values():
                state.current, state.current_bytes, state.started = None, 0, False

    def processing(self) -> set[TP]:
        """The partitions whose batch an agent has started on and not acknowledged."""
        with self._changed:
            return {tp for tp, state in self._partitions.items() if state.started}

    def full(self) -> set[TP]:
        """The partitions that should not be fetched now; all of them where the total is too large."""
        with self._changed:
            return self._full()

    def _full(self) -> set[TP]:
        if sum(state.backlog_bytes + state.current_bytes for state in self._partitions.values()) >= self.bytes_max:
            return {tp for tp, state in self._partitions.items() if state.backlog or state.current}
        return {tp for tp, state in self._partitions.items() if state.backlog_bytes >= self.backlog_bytes_max}

    def wait_for_room(self, unwanted: Collection[TP], some_s: float, all_s: float) -> set[TP]:
        """Wait until no partition but the `unwanted` is full; return the full ones.

        Waits at most `some_s` seconds while others have room, `all_s` where every partition is full.
        """
        since = time.monotonic()
        with self._changed:
            while True:
                full = self._full()
                bound_s = all_s if len(full) == len(self._partitions) else some_s
                left_s = since + bound_s - time.monotonic()
                if full.issubset(unwanted) or left_s <= 0:
                    return full
                self._changed.wait(left_s)

    def committable(self) -> dict[TP, int]:
        """The position of every partition that moved since it was last committed."""
        with self._changed:
            return {
                tp: state.position
                for tp, state in self._partitions.items()
                if state.position is not None and state.position != state.committed
            }

    def committed(self, offsets: dict[TP, int]) -> None:
        """Note that the broker has stored `offsets`."""
        with self._changed:
            for tp, offset in offsets.items():
                state = self._partitions.get(tp)
                if state is not None:
                    state.committed = offset

    def positions(self) -> dict[TP, int | None]:
        """Next offset to process of every assigned partition; None before its first batch was acknowledged."""
        with self._changed:
            return {tp: state.position for tp, state in self._partitions.items()}

    def sizes(self) -> dict[TP, tuple[int, int]]:
        """Per partition: rows fetched and not acknowledged, and their bytes (for gauges and tests)."""
        with self._changed:
            return {
                tp: (
                    len(state.backlog) + (len(state.current.messages) if state.current else 0),
                    state.backlog_bytes + state.current_bytes,
                )
                for tp, state in self._partitions.items()
            }
