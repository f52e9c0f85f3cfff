"""triggers -> endpoints: each trigger to those that want it, again and again by a schedule until it is taken, expires or is given up.

(1) Of a batch, each trigger's standing is appended to `deliveries`, in the partition number of the trigger; (2) the batch is acknowledged;
(3) attempts are made, and each one's outcome is appended before the next. A worker that takes a partition over reads the standings, and
goes on where the last one was.

Delivery: at least once; an attempt whose outcome could not be appended is made again, under the same id. Not after the offer has expired,
nor to whoever was erased or agrees no more (agreement.py).
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from confluent_kafka import Message

from tillstream.kernels.retrying import wait_s
from tillstream.schemas.deadletter import encode_deadletter
from tillstream.schemas.deliveries import Delivery, Parcel, State, decode_delivery, encode_delivery, new_delivery
from tillstream.schemas.events import Malformed
from tillstream.schemas.offers import Triggered, decode_trigger
from tillstream.sinks.delivery.target import Target
from tillstream.sinks.delivery.webhook import Attempt, Poster
from tillstream.sinks.writer import Record, Writer
from tillstream.streams.agreement import Agreement
from tillstream.streams.delivery_metrics import DeliveryMetrics
from tillstream.streams.lanes import WAITING_MAX, Lane, Parked
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import DEADLETTER, DELIVERIES, TRIGGERS

KNOWN_MAX = 100_000
"""Decisions remembered, so that a trigger that was appended twice goes out once; those who repeat themselves do so within seconds."""

HELD_S = 5.0
"""While nobody can say whether members still agree; no attempt is counted."""

GONE = "410: the endpoint is no more"

log = structlog.get_logger(__name__)


class Deliver:
    """Delivers the triggers of some partitions; `failed` is why it can't go on, None while it can."""

    def __init__(
        self, targets: Sequence[Target], writer: Writer, poster: Poster, metrics: DeliveryMetrics, agreement: Agreement
    ) -> None:
        self.targets = {target.endpoint.id: target for target in targets}
        self.writer = writer
        self.poster = poster
        self.metrics = metrics
        self.agreement = agreement
        self.lanes = {name: self._lane(target) for name, target in self.targets.items()}
        self.gone: set[str] = set()
        self.known: dict[str, None] = {}
        self.failed: BaseException | None = None
        self.tasks: list[asyncio.Task[None]] = []

    def _lane(self, target: Target) -> Lane:
        async def attempt(parked: Parked) -> tuple[bool, float | None]:
            return await self.attempt(target, parked)

        lane = Lane(target.endpoint.id, target.endpoint.at_once, attempt)
        self.metrics.waiting.labels(lane.name).set_function(lambda: len(lane.waiting) + len(lane.under_way))
        return lane

    def start(self) -> None:
        """Begins to make attempts."""
        self.tasks = [asyncio.create_task(lane.run()) for lane in self.lanes.values()]

    async def let_go(self) -> None:
        """Forgets everything that waits: its partitions are somebody else's now."""
        await asyncio.gather(*(lane.clear() for lane in self.lanes.values()))

    async def stop(self) -> None:
        """Ends when the attempts that are under way have ended."""
        for task in self.tasks:
            task.cancel()
        await self.let_go()

    async def recover(self, kafka: dict[str, Any], partition: int) -> int | None:
        """Takes up what waits in a partition; gives the offset of the first trigger that has no standing, None where none has one."""
        standing, next_offset = await asyncio.to_thread(self._read, kafka, partition)
        for delivery in standing.values():
            raw = delivery.trigger
            trigger = decode_trigger(raw).data
            for name, parcel in delivery.parcels.items():
                if parcel.state == "waiting" and name in self.lanes:
                    self.lanes[name].put(partition, delivery, trigger, raw, 0.0 if parcel.next_at is None else parcel.next_at.timestamp())
                elif parcel.state == "waiting":
                    await self._settle(partition, delivery, name, parcel, raw, "the file of endpoints has no such id any more")
        return next_offset

    def _read(self, kafka: dict[str, Any], partition: int) -> tuple[dict[str, Delivery], int | None]:
        standing: dict[str, Delivery] = {}
        next_offset: int | None = None
        for message in read_topic(kafka, DELIVERIES, partition, 0):
            delivery = decode_delivery(message.value() or b"")
            standing[delivery.decision_id] = delivery
            if not delivery.waits:
                del standing[delivery.decision_id]
            self._note_known(delivery.decision_id)
            next_offset = max(next_offset or 0, delivery.offset + 1)
        return standing, next_offset

    def _note_known(self, decision_id: str) -> None:
        self.known[decision_id] = None
        if len(self.known) > KNOWN_MAX:
            del self.known[next(iter(self.known))]

    async def take(self, partition: int, messages: Iterable[Message]) -> None:
        """A batch of triggers: notes each one's standing, and lets it wait for its first attempt."""
        if self.failed is not None:
            raise self.failed
        moment, records = datetime.now(UTC), []
        taken: list[tuple[Delivery, Triggered, bytes]] = []
        for message in messages:
            raw, offset = message.value() or b"", message.offset() or 0
            try:
                trigger = decode_trigger(raw).data
            except Malformed as malformed:
                records.append(Record(DEADLETTER, message.key(), encode_deadletter(malformed, raw, (TRIGGERS, partition, offset), moment)))
                continue
            names = [name for name, target in self.targets.items() if target.wants(trigger)]
            if not names or trigger.decision_id in self.known:
                continue
            self._note_known(trigger.decision_id)
            delivery = new_delivery(trigger.decision_id, offset, names, raw)
            records.append(self._record(partition, delivery))
            taken.append((delivery, trigger, raw))
        await self.writer.append(records)
        for delivery, trigger, raw in taken:
            for name, parcel in delivery.parcels.items():
                if self.lanes[name].is_full:
                    await self._settle(partition, delivery, name, parcel, raw, f"more than {WAITING_MAX} triggers wait for it")
                else:
                    self.lanes[name].put(partition, delivery, trigger, raw)

    def _record(self, partition: int, delivery: Delivery) -> Record:
        return Record(DELIVERIES, delivery.decision_id.encode(), encode_delivery(delivery, datetime.now(UTC)), partition)

    async def attempt(self, target: Target, parked: Parked) -> tuple[bool, float | None]:
        """One attempt; whether the endpoint answered well, and when to come again, seconds since 1970; None: never."""
        try:
            return await self._attempt(target, parked)
        except Exception as error:
            self.failed = error
            raise

    async def _attempt(self, target: Target, parked: Parked) -> tuple[bool, float | None]:
        name, delivery = target.endpoint.id, parked.delivery
        parcel = delivery.parcels[name]
        if parked.trigger.expires_at <= datetime.now(UTC):
            return await self._drop(parked, name, "expired")
        standing = await self.agreement.of(parked.trigger)
        if standing == "withdrawn":
            return await self._drop(parked, name, "withdrawn")
        if standing == "unknown":
            log.warning("deliveries_held", endpoint=name, waits_for="Redis, and in it the members")
            return True, time.time() + HELD_S
        if name in self.gone:
            await self._settle(parked.partition, delivery, name, parcel, parked.raw, GONE)
            return True, None
        outcome = await target.sender.send(self.poster, delivery.decision_id, parked.raw, int(time.time()))
        parcel.attempts += 1
        return outcome.result != "failed", await self._note(target, parked, parcel, outcome)

    async def _drop(self, parked: Parked, name: str, state: State) -> tuple[bool, None]:
        """Ends a delivery that is wanted no more; nothing of it is kept."""
        parcel = parked.delivery.parcels[name]
        parcel.state, parcel.next_at = state, None
        self.metrics.deliveries.labels(name, state).inc()
        await self.writer.append([self._record(parked.partition, parked.delivery)])
        return True, None

    async def _note(self, target: Target, parked: Parked, parcel: Parcel, outcome: Attempt) -> float | None:
        """Appends what came of an attempt; when to come again."""
        name, delivery = target.endpoint.id, parked.delivery
        if outcome.result == "gone":
            self.gone.add(name)
            log.error("endpoint_gone", endpoint=name)
        again = None
        if outcome.result == "failed":
            again = wait_s(target.endpoint.schedule_s, parcel.attempts, f"{delivery.decision_id} {name}", outcome.retry_after_s)
        if outcome.result != "delivered" and again is None:
            await self._settle(parked.partition, delivery, name, parcel, parked.raw, outcome.reason)
            return None
        parcel.reason = outcome.reason
        parcel.state = "delivered" if again is None else "waiting"
        parcel.next_at = None if again is None else datetime.now(UTC) + timedelta(seconds=again)
        self.metrics.deliveries.labels(name, "delivered" if again is None else "retried").inc()
        await self.writer.append([self._record(parked.partition, delivery)])
        return None if parcel.next_at is None else parcel.next_at.timestamp()

    async def _settle(self, partition: int, delivery: Delivery, name: str, parcel: Parcel, raw: bytes, reason: str) -> None:
        """Gives a delivery up: a dead letter with the trigger and the reason."""
        parcel.state, parcel.next_at, parcel.reason = "dead", None, reason
        self.metrics.deliveries.labels(name, "dead").inc()
        log.warning("delivery_dead", endpoint=name, decision=delivery.decision_id, attempts=parcel.attempts, reason=reason)
        problem = Malformed("undeliverable", "$", f"{name}: {reason}; {parcel.attempts} attempts")
        place = (TRIGGERS, partition, delivery.offset)
        letter = encode_deadletter(problem, raw, place, datetime.now(UTC), name)
        await self.writer.append([self._record(partition, delivery), Record(DEADLETTER, delivery.decision_id.encode(), letter)])
