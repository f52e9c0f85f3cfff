"""How far an installation is: what is on the topics and not yet in the ledger, Redis and ClickHouse."""

from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from tillstream.config import Config
from tillstream.sinks.redis import Redis
from tillstream.sinks.state import StateStore
from tillstream.streams.topics import LEDGER, RECEIPTS, TRANSACTIONS

ANSWER_S = 10.0


class Behind(NamedTuple):
    """Records that each agent has yet to take."""

    identify: int
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
        self.points = group_consumer(config.kafka, "tillstream-points")
        self.history = group_consumer(config.kafka, "tillstream-history")

    async def behind(self) -> Behind:
        """The lag of the agents now, upstream first: nothing can slip past between two looks."""
        identify = self.committed_lag(self.points, RECEIPTS)
        ends = self.ends(TRANSACTIONS)
        standings = [(await self.state.standing(partition)).offset for partition in range(self.partitions)]
        accrue = sum(max(0, end - 1 - offset) for end, offset in zip(ends, standings, strict=True))
        history = self.committed_lag(self.history, TRANSACTIONS) + self.committed_lag(self.history, LEDGER)
        return Behind(identify, accrue, history)

    def ends(self, topic: str) -> list[int]:
        """The high watermark of each partition."""
        return [
            self.points.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_S)[1]
            for partition in range(self.partitions)
        ]

    def committed_lag(self, consumer: Consumer, topic: str) -> int:
        places = [TopicPartition(topic, partition) for partition in range(self.partitions)]
        committed = consumer.committed(places, timeout=ANSWER_S)
        return sum(max(0, end - max(place.offset, 0)) for end, place in zip(self.ends(topic), committed, strict=True))

    def close(self) -> None:
        self.points.close()
        self.history.close()


def group_consumer(bootstrap: str, group: str) -> Consumer:
    """A consumer that asks for a group's offsets and never joins it."""
    return Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False, "log_level": 0})
