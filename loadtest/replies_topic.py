"""The way that tillstream did not take: replies on a Kafka topic, which each gateway reads whole and keeps its own of."""

import asyncio
import threading

from confluent_kafka import Consumer, TopicPartition

from tillstream.gateway.inbox import Inbox
from tillstream.sinks.redis import Redis

TOPIC = "replies"

PRODUCER = {"linger.ms": 0, "acks": "1", "log_level": 0}
"""What is lost is asked for again, as on the channel; so nothing waits for replicas or for company."""

CONSUMER = {"fetch.wait.max.ms": 10, "fetch.min.bytes": 1, "enable.auto.commit": False, "log_level": 0}
"""As the workers' transport has it: the embedded broker looks again after half of this wait."""

LOOK_UP_S = 10.0
POLL_S = 0.1
ROWS_MAX = 1_000


class TopicInbox(Inbox):
    """Hands each reply on the topic to whoever waits for it."""

    def __init__(self, client: Redis, kafka: str) -> None:
        super().__init__(client)
        self.consumer = Consumer({"bootstrap.servers": kafka, "group.id": f"replies-{self.name}", **CONSUMER})

    async def run(self) -> None:
        """Reads from the topic's end until it is stopped."""
        self.loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._read, daemon=True)
        thread.start()
        await asyncio.to_thread(thread.join)

    def _read(self) -> None:
        end = self.consumer.get_watermark_offsets(TopicPartition(TOPIC, 0), LOOK_UP_S)[1]
        self.consumer.assign([TopicPartition(TOPIC, 0, end)])
        self.loop.call_soon_threadsafe(self.listening.set)
        while not self.stopped:
            first = self.consumer.poll(POLL_S)
            messages = [] if first is None else [first, *self.consumer.consume(ROWS_MAX, 0)]
            values = [message.value() for message in messages if message.error() is None]
            if values:
                self.loop.call_soon_threadsafe(self._take_all, values)
        self.consumer.close()

    def _take_all(self, values: list[bytes]) -> None:
        for value in values:
            self._take(value)
