"""Events into Kafka, at a rate: what `replay`, `demo` and the load generator send with.

Delivery: idempotent per session, acknowledged by all replicas; `send` returns when every event is acknowledged.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from confluent_kafka import KafkaError, Message, Producer

from tillstream.config import Config
from tillstream.errors import TillstreamError
from tillstream.sinks.writer import PRODUCER
from tillstream.streams.topics import MEMBERS, RECEIPTS
from tillstream.tls import kafka_settings

FLUSH_S = 60.0
POLL_EVERY = 500
"""Events between two looks at the clock and at delivery reports."""

MEMBER_TYPES = "member."
"""What their types begin with."""


class SendFailed(TillstreamError):
    """Kafka did not acknowledge an event."""


class Sender:
    """Sends events to the topics that they belong to; counts what was acknowledged."""

    def __init__(self, config: Config) -> None:
        self.producer = Producer({**PRODUCER, **kafka_settings(config), "linger.ms": 5, "log_level": 0})
        self.acknowledged = 0
        self.failed: KafkaError | None = None

    def send(self, events: Iterable[dict[str, Any]], rate: float | None = None, progress: Callable[[int], None] | None = None) -> int:
        """Sends all events, at most `rate` a second; the number that was sent, each acknowledged.

        Raises:
            SendFailed: one was not.
        """
        started, sent = time.monotonic(), 0
        for event in events:
            self.produce(event)
            sent += 1
            if sent % POLL_EVERY == 0 or rate is not None:
                self.producer.poll(0)
                if progress is not None:
                    progress(sent)
                ahead = sent / rate - (time.monotonic() - started) if rate else 0.0
                if ahead > 0:
                    self.producer.poll(ahead)
        self.producer.flush(FLUSH_S)
        if self.failed is not None or len(self.producer):
            raise SendFailed(f"Kafka did not acknowledge every event: {self.failed.str() if self.failed else 'timed out'}")
        if progress is not None:
            progress(sent)
        return sent

    def produce(self, event: dict[str, Any]) -> None:
        """One event: members by their id, receipts by their till."""
        data = event["data"]
        member = event["type"].startswith(MEMBER_TYPES)
        topic, key = (MEMBERS, data["from"] if "from" in data else data["member_id"]) if member else (RECEIPTS, event["source"])
        while True:
            try:
                self.producer.produce(topic, orjson.dumps(event), key.encode(), on_delivery=self._delivered)
                return
            except BufferError:
                self.producer.poll(0.1)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self.failed = error
        else:
            self.acknowledged += 1
