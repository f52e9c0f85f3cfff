"""Events on their way to Kafka: a lone one goes at once, those close behind go together, in order, each caller told of its own."""

import asyncio
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, TopicPartition

from tillstream.embedded.broker import Broker
from tillstream.gateway.producer import PACE_S, KafkaAway, KafkaEvents
from tillstream.sinks.writer import Record
from tillstream.streams.topics import RECEIPTS, ensure_topics

TOO_LONG = 20 * 1024 * 1024


@pytest.fixture(scope="module")
def kafka() -> Iterator[str]:
    with Broker() as address:
        ensure_topics(address, 1, 1)
        yield address


def record(number: int) -> Record:
    return Record(RECEIPTS, b"till", str(number).encode())


def values(kafka: str, count: int) -> list[int]:
    """The first records of the topic."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "looks", "fetch.wait.max.ms": 10})
    consumer.assign([TopicPartition(RECEIPTS, 0, 0)])
    try:
        found: list[int] = []
        while len(found) < count:
            found += [int(message.value() or b"") for message in consumer.consume(count - len(found), 5.0)]
        return found
    finally:
        consumer.close()


def test_events_that_come_together_go_together_and_in_order(kafka: str) -> None:
    async def submitting() -> None:
        events = KafkaEvents({"bootstrap.servers": kafka})
        events.start()
        loop = asyncio.get_running_loop()
        try:
            await events.submit([record(0)])
            handed_over_s = loop.time()
            assert events.next_s <= handed_over_s + PACE_S
            events.next_s = handed_over_s + 5 * PACE_S  # Else the test would have to be faster than the pace.
            waiting = [asyncio.create_task(events.submit([record(number)])) for number in range(1, 40)]
            await asyncio.sleep(0)
            assert len(events.held) == 39
            await asyncio.gather(*waiting)
            assert loop.time() >= handed_over_s + 5 * PACE_S
            assert events.held == []
        finally:
            await events.stop()

    asyncio.run(submitting())
    assert values(kafka, 40) == list(range(40))


def test_event_that_kafka_cannot_take_is_told_to_its_caller_only(kafka: str) -> None:
    async def submitting() -> list[BaseException | None]:
        events = KafkaEvents({"bootstrap.servers": kafka})
        events.start()
        try:
            long = Record(RECEIPTS, None, b"1" * TOO_LONG)
            return await asyncio.gather(events.submit([record(1)]), events.submit([long]), events.submit([]), return_exceptions=True)
        finally:
            await events.stop()

    taken, refused, nothing = asyncio.run(submitting())
    assert (taken, nothing) == (None, None)
    assert isinstance(refused, KafkaAway)
