"""A topic of one partition that a process reads whole and then follows: programs, keys. No consumer group: everybody reads all of it.

Delivery: a record is given to each process from the first look after it was acknowledged.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from tillstream.streams.recovery import read_topic

ROWS_MAX = 100
"""Records in one look: more than anybody publishes in a second."""


class Follower:
    """Reads `topic`, partition 0; `kafka` is librdkafka's settings."""

    def __init__(self, kafka: Mapping[str, Any], topic: str) -> None:
        self.kafka = kafka
        self.topic = topic
        self.next_offset = 0
        self.consumer: Consumer | None = None

    def to_the_end(self) -> Iterator[Message]:
        """What there is beyond what was read before; waits for the broker.

        Raises:
            KafkaException: it fails, or is silent.
        """
        for message in read_topic(self.kafka, self.topic, 0, self.next_offset):
            self.next_offset = (message.offset() or 0) + 1
            yield message

    def look(self) -> list[Message]:
        """What came since the last look, at most `ROWS_MAX`; the broker is not waited for.

        Raises:
            KafkaException: the topic is not the one that was read, but a new one; the next look begins at its beginning.
        """
        if self.consumer is None:
            quiet = {"group.id": "tillstream-reader", "enable.auto.commit": False, "auto.offset.reset": "error"}
            self.consumer = Consumer({**self.kafka, **quiet})
            self.consumer.assign([TopicPartition(self.topic, 0, self.next_offset or OFFSET_BEGINNING)])
        found = self.consumer.consume(ROWS_MAX, 0)
        for error in (message.error() for message in found):
            if error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:
                self.close()
                self.next_offset = 0
                raise KafkaException(error)
        messages = [message for message in found if not message.error()]
        if messages:
            self.next_offset = (messages[-1].offset() or 0) + 1
        return messages

    def close(self) -> None:
        """Follows no more."""
        if self.consumer is not None:
            self.consumer.close()
            self.consumer = None


def text_key(message: Message) -> str:
    """A record's key; one that is no text is somebody else's, and shown as well as can be."""
    return (message.key() or b"").decode(errors="replace")
