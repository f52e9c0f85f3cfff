"""Contender: the least that any consumer does: fetch and decode, and nothing with it."""

from confluent_kafka import Consumer, KafkaException

from loadtest.contender import Clock, Task, read_task
from tillstream.collector import spare_the_collector
from tillstream.installation import SESSION_MS
from tillstream.schemas.events import decode
from tillstream.streams.topics import TRANSACTIONS

BATCH = 500
WAIT_S = 0.05
"""`consume` waits all of it where fewer than `BATCH` records are there."""


def work(task: Task) -> None:
    """Reads until everything is decoded."""
    clock = Clock(task.receipts)
    consumer = Consumer(
        {
            "bootstrap.servers": task.kafka,
            "group.id": "loadtest-bare",
            "auto.offset.reset": "earliest",
            "session.timeout.ms": SESSION_MS,
            "fetch.wait.max.ms": 10,
            "fetch.queue.backoff.ms": 5,
        }
    )
    consumer.subscribe([TRANSACTIONS])
    spare_the_collector()
    try:
        while clock.result is None:
            messages = consumer.consume(BATCH, WAIT_S)
            if not messages:
                continue
            clock.start()
            for message in messages:
                if (error := message.error()) is not None:
                    raise KafkaException(error)
                decode(message.value() or b"")
            clock.add(len(messages))
        clock.report()
    finally:
        consumer.close()


if __name__ == "__main__":
    work(read_task())
