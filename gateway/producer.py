"""Events into Kafka, as tills append them. An event that was acknowledged here is in the log, on all replicas.

Delivery: at least once; what was not acknowledged may have arrived all the same, and the natural key tells (G2).
"""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tillstream.sinks.writer import PRODUCER, Record
from tillstream.streams.topics import RECEIPTS

ACKNOWLEDGED_S = 0.8
"""A broker on the same network acknowledges within milliseconds; a till is told within a second that nobody does."""

POLL_S = 0.1

PACE_S = 0.01
"""After what was appended last, so long until the next: a lone event goes at once, and of 300 a second three go together. Each batch costs
broker and worker about what each event in it does, so a busy hour costs them a third of it, and a till a few milliseconds."""

SETTINGS = {
    # What was handed over together goes together.
    "linger.ms": 1,
    # A few events at a time: what compressing saves a broker on the same network is less than it costs here.
    "compression.type": "none",
    # What a till was told is not there must not linger; librdkafka looks once a second.
    "message.timeout.ms": 2_000,
    # After an outage, at once again: the default waits up to ten seconds.
    "reconnect.backoff.max.ms": 500,
    # Repeats are told by their natural key, and this one never ends in a fatal error.
    "enable.idempotence": False,
    "acks": "all",
    "log_level": 0,
}


class KafkaAway(Exception):
    """Kafka did not acknowledge in time, or refused."""


class LaneFull(Exception):
    """As much as may be is on its way already."""


class KafkaEvents:
    """Appends records and waits until they are acknowledged; many requests at once share one producer."""

    def __init__(self, kafka: dict[str, Any]) -> None:
        self.producer = Producer({**PRODUCER, **SETTINGS, **kafka})
        self.stopped = threading.Event()
        # librdkafka tells of deliveries in whatever thread polls; waiting for them must not hold up requests.
        self.thread = threading.Thread(target=self._poll, name="kafka-events", daemon=True)
        self.held: list[tuple[Record, Delivery]] = []
        self.next_s = 0.0

    def start(self) -> None:
        """Begins to look for acknowledgements."""
        self.thread.start()

    async def stop(self) -> None:
        """Ends; who still waits has its answer first, or a timeout."""
        self.stopped.set()
        await asyncio.to_thread(self.thread.join)

    async def submit(self, records: Sequence[Record]) -> None:
        """Appends records; on return all of them are acknowledged.

        Raises:
            KafkaAway: one was not, within `ACKNOWLEDGED_S`; some may be in the log.
        """
        loop, delivery = asyncio.get_running_loop(), Delivery(len(records))
        if not self.held:
            loop.call_at(max(self.next_s, loop.time()), self._append, loop)
        self.held += [(record, delivery) for record in records]
        try:
            async with asyncio.timeout(ACKNOWLEDGED_S):
                await delivery.done
        except TimeoutError:
            raise KafkaAway(f"not acknowledged within {ACKNOWLEDGED_S} s") from None

    def _append(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hands over what is held; the next may follow after `PACE_S`."""
        held, self.held = self.held, []
        self.next_s = loop.time() + PACE_S
        for record, delivery in held:
            try:
                self.producer.produce(record.topic, record.value, record.key, on_delivery=delivery.note)
            except (BufferError, KafkaException) as error:
                delivery.end(KafkaAway(str(error)))

    def answers(self, seconds: float) -> bool:
        """Whether a broker does, within so many seconds; blocks."""
        try:
            self.producer.list_topics(RECEIPTS, timeout=seconds)
        except KafkaException:
            return False
        return True

    def _poll(self) -> None:
        while not self.stopped.is_set() or len(self.producer):
            self.producer.poll(POLL_S)


class Lane:
    """The share of one kind of records in a producer, `bytes_max` of them on their way at most: a flood of these leaves room for others."""

    def __init__(self, events: KafkaEvents, bytes_max: int) -> None:
        self.events = events
        self.bytes_max = bytes_max
        self.bytes_left = bytes_max

    async def submit(self, records: Sequence[Record]) -> None:
        """As of `KafkaEvents`.

        Raises:
            LaneFull: there is no room for them now; nothing was sent.
            KafkaAway: as of `KafkaEvents`.
        """
        size = sum(len(record.value or b"") for record in records)
        if size > self.bytes_left:
            raise LaneFull
        self.bytes_left -= size
        try:
            await self.events.submit(records)
        finally:
            self.bytes_left += size


class Delivery:
    """The records of one request on their way; `done` when all are acknowledged, or one is not."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()
        if not count:
            self.done.set_result(None)

    def note(self, error: KafkaError | None, _: Message) -> None:
        """One record's end; in the thread that polls."""
        self.left -= 1
        if error is not None or self.left == 0:
            self.loop.call_soon_threadsafe(self.end, None if error is None else KafkaAway(error.str()))

    def end(self, failure: KafkaAway | None) -> None:
        """All are acknowledged, or one never will be; the first word counts."""
        if self.done.done():
            return
        if failure is not None:
            self.done.set_exception(failure)
            self.done.exception()  # Whoever waited may have been cancelled, and nobody else asks.
        else:
            self.done.set_result(None)
