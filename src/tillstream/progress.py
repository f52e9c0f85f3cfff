"""How far an installation is: what is on the topics and not yet in the ledger, Redis and ClickHouse.

The ends of topics are what the broker says; the embedded one may leave out the last records for a moment. What history has yet to do is
told exactly, by how far Redis is.
"""

from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from tillstream.config import Config
from tillstream.sinks.redis import Redis
from tillstream.sinks.state import StateStore
from tillstream.streams.topics import RECALL, RECEIPTS, TRANSACTIONS
from tillstream.tls import kafka_settings

ANSWER_S = 10.0


class Behind(NamedTuple):
    """Records that each agent has yet to take."""

    identify: int
    recall: int
    accrue: int
    history: int

    @property
    def total(self) -> int:
        return sum(self)


class Watch:
    """Compares the ends of topics with how far the agents are."""

    def __init__(self, config: Config, client: Redis) -> None:
        self.partitions = config.partitions
        self.state = StateStore(client)
        self.points = group_consumer(config, "tillstream-points")
        self.history = group_consumer(config, "tillstream-history")

    async def behind(self) -> Behind:
        """The lag of the agents now, upstream first: nothing can slip past between two looks."""
        identify = self.committed_lag(self.points, RECEIPTS, self.partitions)
        recall = self.recall_lag()
        ends = self.ends(TRANSACTIONS, self.partitions)
        standings = [await self.state.standing(partition) for partition in range(self.partitions)]
        accrue = sum(max(0, end - 1 - standing.offset) for end, standing in zip(ends, standings, strict=True))
        written = [await self.state.history(partition) for partition in range(self.partitions)]
        history = sum(max(0, standing.ledger - offset) for standing, offset in zip(standings, written, strict=True))
        taken = self.committed(self.history, TRANSACTIONS, self.partitions)
        history += sum(max(0, standing.offset + 1 - offset) for standing, offset in zip(standings, taken, strict=True))
        # Once more: `accrue` may have sent something back to history, which was not there at the first look.
        return Behind(identify, max(recall, self.recall_lag()), accrue, history)

    def recall_lag(self) -> int:
        return self.committed_lag(self.history, RECALL, 1)

    def ends(self, topic: str, partitions: int) -> list[int]:
        """The high watermark of each partition."""
        return [
            self.points.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_S)[1]
            for partition in range(partitions)
        ]

    def committed(self, consumer: Consumer, topic: str, partitions: int) -> list[int]:
        """The next offset of each partition that a group has yet to take."""
        places = [TopicPartition(topic, partition) for partition in range(partitions)]
        return [max(place.offset, 0) for place in consumer.committed(places, timeout=ANSWER_S)]

    def committed_lag(self, consumer: Consumer, topic: str, partitions: int) -> int:
        ends, offsets = self.ends(topic, partitions), self.committed(consumer, topic, partitions)
        return sum(max(0, end - offset) for end, offset in zip(ends, offsets, strict=True))

    def close(self) -> None:
        self.points.close()
        self.history.close()


def group_consumer(config: Config, group: str) -> Consumer:
    """A consumer that asks for a group's offsets and never joins it."""
    return Consumer({**kafka_settings(config), "group.id": group, "enable.auto.commit": False, "log_level": 0})
