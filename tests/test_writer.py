"""Kafka out: records and offsets together or not at all, zombies fenced, failures told within a bound.

Transactions are proved on Apache Kafka; the embedded broker has none, there the writer's plain mode is tried.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from os import urandom

import pytest
from aiokafka.partitioner import murmur2  # type: ignore[import-untyped]
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.kafka_cluster import KafkaCluster
from tests.pipeline_harness import kafka_cluster  # noqa: F401
from tillstream.embedded.broker import Broker
from tillstream.sinks import writer as writer_module
from tillstream.sinks.writer import Consumed, Record, WriteFailed, Writer

WAIT_S = 20.0
PARTITIONS = 2


@pytest.fixture(scope="module")
def embedded() -> Iterator[str]:
    """The embedded broker's address."""
    with Broker() as bootstrap:
        yield bootstrap


@pytest.fixture(params=["embedded", pytest.param("cluster", marks=pytest.mark.slow)])
def bootstrap(request: pytest.FixtureRequest) -> str:
    """Each kind of broker in turn."""
    if request.param == "embedded":
        return str(request.getfixturevalue("embedded"))
    cluster: KafkaCluster = request.getfixturevalue("kafka_cluster")
    return cluster.bootstrap


def created(bootstrap: str, **settings: str) -> str:
    """A new topic."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    replicas = min(3, len(bootstrap.split(",")))
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(name, PARTITIONS, replicas, config=settings)])[name].result(WAIT_S)
    return name


def values(bootstrap: str, topic: str) -> list[bytes]:
    """What a reader of committed records sees of a topic, to its present end."""
    config = {"bootstrap.servers": bootstrap, "group.id": "reader", "fetch.wait.max.ms": 10, "enable.partition.eof": True}
    found = []
    for partition in range(PARTITIONS):
        consumer = Consumer(config)
        try:
            consumer.assign([TopicPartition(topic, partition, 0)])
            while not (message := consumer.poll(WAIT_S)).error():
                found.append(message.value())
        finally:
            consumer.close()
    return found


@contextmanager
def member(bootstrap: str, group: str, topic: str) -> Iterator[object]:
    """The metadata of the only member of a group, which leaves at the end."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "session.timeout.ms": 6000, "enable.auto.commit": False})
    assigned: list[object] = []
    try:
        consumer.subscribe([topic], on_assign=lambda *_: assigned.append(consumer.consumer_group_metadata()))
        deadline = time.monotonic() + WAIT_S
        while not assigned and time.monotonic() < deadline:
            consumer.poll(0.1)
        yield assigned[0]
    finally:
        consumer.close()


def committed(bootstrap: str, group: str, topic: str) -> list[int]:
    """The group's offsets; negative where there is none."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    try:
        return [place.offset for place in consumer.committed([TopicPartition(topic, p) for p in range(PARTITIONS)], WAIT_S)]
    finally:
        consumer.close()


def with_writers(bootstrap: str, scenario: Callable[..., Awaitable[None]], *ids: str | None) -> None:
    """Runs a scenario with a writer per transactional id (None: plain), started one after another."""

    async def run() -> None:
        writers = [Writer({"bootstrap.servers": bootstrap, "log_level": 0}, name) for name in ids]
        try:
            for writer in writers:
                await writer.start()
            await asyncio.wait_for(scenario(*writers), 3 * WAIT_S)
        finally:
            for writer in writers:
                await writer.stop()

    asyncio.run(run())


@pytest.mark.slow
def test_transaction_commits_records_of_several_topics_and_the_offset_together(kafka_cluster: KafkaCluster) -> None:  # noqa: F811
    bootstrap = kafka_cluster.bootstrap
    source, ledger, letters = created(bootstrap), created(bootstrap), created(bootstrap)

    async def scenario(writer: Writer) -> None:
        with member(bootstrap, source, source) as membership:
            records = [Record(ledger, b"k", b"a", 1), Record(ledger, None, b"b", 1), Record(letters, b"k", b"c")]
            assert await writer.append(records, Consumed(source, 1, 7), membership) == {ledger: 1, letters: -1}
            # The marker of the transaction takes an offset of its own.
            assert await writer.append([Record(ledger, None, b"d", 1)], Consumed(source, 0, 3), membership) == {ledger: 3}
            assert await writer.append([], Consumed(source, 0, 9), membership) == {}
            assert committed(bootstrap, source, source) == [9, 7]

    with_writers(bootstrap, scenario, source)
    assert values(bootstrap, ledger) == [b"a", b"b", b"d"]
    assert values(bootstrap, letters) == [b"c"]


@pytest.mark.slow
def test_writer_whose_transactional_id_was_taken_over_is_fenced(kafka_cluster: KafkaCluster) -> None:  # noqa: F811
    bootstrap = kafka_cluster.bootstrap
    source, ledger = created(bootstrap), created(bootstrap)

    async def scenario(zombie: Writer, successor: Writer) -> None:
        with member(bootstrap, source, source) as membership:
            for _ in range(2):
                with pytest.raises(WriteFailed):
                    await zombie.append([Record(ledger, None, b"zombie", 0)], Consumed(source, 0, 99), membership)
            await successor.append([Record(ledger, None, b"successor", 0)], Consumed(source, 0, 1), membership)

    with_writers(bootstrap, scenario, source, source)
    assert values(bootstrap, ledger) == [b"successor"]
    assert committed(bootstrap, source, source)[0] == 1


@pytest.mark.slow
def test_writer_under_an_old_membership_is_fenced_and_goes_on_under_a_new_one(kafka_cluster: KafkaCluster) -> None:  # noqa: F811
    bootstrap = kafka_cluster.bootstrap
    source, ledger = created(bootstrap), created(bootstrap)

    async def scenario(zombie: Writer, successor: Writer) -> None:
        with member(bootstrap, source, source) as old:
            await zombie.append([Record(ledger, None, b"before", 0)], Consumed(source, 0, 1), old)
        with member(bootstrap, source, source) as new:
            await successor.append([Record(ledger, None, b"successor", 0)], Consumed(source, 0, 2), new)
            with pytest.raises(WriteFailed):
                await zombie.append([Record(ledger, None, b"zombie", 0)], Consumed(source, 0, 99), old)
            assert committed(bootstrap, source, source)[0] == 2
            await zombie.append([Record(ledger, None, b"rejoined", 1)], Consumed(source, 1, 5), new)

    with_writers(bootstrap, scenario, f"{source}-a", f"{source}-b")
    assert values(bootstrap, ledger) == [b"before", b"successor", b"rejoined"]


@pytest.mark.slow
def test_zombie_in_a_group_with_others_takes_nobody_with_it(kafka_cluster: KafkaCluster) -> None:  # noqa: F811
    bootstrap = kafka_cluster.bootstrap
    source, ledger = created(bootstrap), created(bootstrap)

    async def scenario(writer: Writer) -> None:
        with member(bootstrap, source, source) as old:
            pass
        with member(bootstrap, source, source) as new:
            appends = [
                writer.append([Record(ledger, None, b"%d" % n, 0)], Consumed(source, 0, n + 1), old if n == 5 else new) for n in range(9)
            ]
            found = await asyncio.gather(*appends, return_exceptions=True)
            assert [isinstance(answer, WriteFailed) for answer in found] == [n == 5 for n in range(9)]

    with_writers(bootstrap, scenario, source)
    assert values(bootstrap, ledger) == [b"%d" % n for n in range(9) if n != 5]
    assert committed(bootstrap, source, source)[0] == 9


def test_plain_appends_arrive_in_order_and_tell_their_last_offsets(bootstrap: str) -> None:
    topic = created(bootstrap)

    async def scenario(writer: Writer) -> None:
        assert await writer.append([]) == {}
        appends = [writer.append([Record(topic, None, b"%d" % (3 * n + i), 1, 1_000 + n) for i in range(3)]) for n in range(200)]
        # Those that went in one group are all told its last offset.
        assert [answer[topic] >= 3 * n + 2 for n, answer in enumerate(await asyncio.gather(*appends))] == [True] * 200
        with pytest.raises(WriteFailed):
            await writer.append([Record(topic, None, b"nowhere", 77)])
        assert await writer.append([Record(topic, None, b"last", 1)]) == {topic: 600}

    with_writers(bootstrap, scenario, None)
    assert values(bootstrap, topic) == [*(b"%d" % n for n in range(600)), b"last"]


def test_key_goes_to_the_partition_that_java_and_aiokafka_choose(bootstrap: str) -> None:
    topic = created(bootstrap)
    keys = [f"m{n}".encode() for n in range(20)] + ["żółw".encode(), b"\x00", b"{p3}"]

    async def scenario(writer: Writer) -> None:
        await writer.append([Record(topic, key, key) for key in keys])

    with_writers(bootstrap, scenario, None)
    by_partition = [[key for key in keys if (murmur2(key) & 0x7FFFFFFF) % PARTITIONS == p] for p in range(PARTITIONS)]
    assert values(bootstrap, topic) == [key for some in by_partition for key in some]


@pytest.mark.slow
@pytest.mark.parametrize("size", [13 * 1024 * 1024, 3 * 1024 * 1024], ids=["more than the producer takes", "more than the topic takes"])
@pytest.mark.parametrize("transactional", [False, True])
def test_record_over_the_size_limit_fails_and_leaves_the_writer_fit(
    kafka_cluster: KafkaCluster, transactional: bool, size: int  # noqa: F811
) -> None:
    bootstrap = kafka_cluster.bootstrap
    topic = created(bootstrap, **{"max.message.bytes": str(2 * 1024 * 1024)})

    async def scenario(writer: Writer) -> None:
        with pytest.raises(WriteFailed, match=r"size|large"):
            # The broker's limit is one of what is left when it is compressed.
            await writer.append([Record(topic, None, b"small", 0), Record(topic, None, urandom(size), 0)])
        # A broker's refusal leaves a hole in the producer's sequence, which costs the next transaction as well.
        for _ in range(2):
            with suppress(WriteFailed):
                await writer.append([Record(topic, None, b"next", 0)])
                return
        raise AssertionError("the writer stays unfit")

    started = time.monotonic()
    with_writers(bootstrap, scenario, topic if transactional else None)
    assert time.monotonic() - started < WAIT_S
    assert values(bootstrap, topic) == ([b"next"] if transactional else [b"small", b"next"])


@pytest.mark.slow
@pytest.mark.parametrize("transactional", [False, True])
def test_whoever_stops_waiting_or_errs_does_not_hold_up_the_next(kafka_cluster: KafkaCluster, transactional: bool) -> None:  # noqa: F811
    bootstrap = kafka_cluster.bootstrap
    source, topic = created(bootstrap), created(bootstrap)

    async def scenario(writer: Writer) -> None:
        given_up = asyncio.create_task(writer.append([Record(topic, None, b"a", 0)]))
        nowhere = asyncio.create_task(writer.append([Record(topic, None, b"b", 77)]))
        await asyncio.sleep(0)
        given_up.cancel()
        nowhere.cancel()
        if transactional:
            with pytest.raises(WriteFailed):
                await writer.append([Record(topic, None, b"c", 0)], Consumed(source, 0, 1), None)
        with pytest.raises(WriteFailed):
            await writer.append([Record(topic, None, "no bytes", "no partition")])  # type: ignore[arg-type]
        await writer.append([Record(topic, None, b"d", 0)])

    with_writers(bootstrap, scenario, source if transactional else None)
    assert values(bootstrap, topic)[-1] == b"d"


def test_stopping_ends_after_the_appends_so_far(bootstrap: str) -> None:
    topic = created(bootstrap)

    async def run() -> None:
        writer = Writer({"bootstrap.servers": bootstrap})
        await writer.start()
        appends = [asyncio.create_task(writer.append([Record(topic, None, b"x", 0)])) for _ in range(40)]
        await asyncio.sleep(0)
        await writer.stop()
        await asyncio.gather(*appends)
        with pytest.raises(WriteFailed):
            await writer.append([Record(topic, None, b"late", 0)])

    asyncio.run(asyncio.wait_for(run(), WAIT_S))
    assert len(values(bootstrap, topic)) == 40


@pytest.mark.parametrize(
    "records", [1, pytest.param(150_000, marks=pytest.mark.slow)], ids=["one record", "more than the producer's queue takes"]
)
def test_broker_that_goes_away_is_told_within_the_bound(monkeypatch: pytest.MonkeyPatch, records: int) -> None:
    monkeypatch.setattr(writer_module, "COMMIT_S", 2.0)
    broker = Broker()
    topic = created(broker.start())
    took: list[float] = []

    async def scenario(writer: Writer) -> None:
        await writer.append([Record(topic, None, b"x", 0)])
        broker.stop()
        started = time.monotonic()
        with pytest.raises(WriteFailed):
            await writer.append([Record(topic, None, b"x", 0)] * records)
        took.append(time.monotonic() - started)

    try:
        with_writers(broker.address, scenario, None)
    finally:
        broker.stop()
    # Five minutes, if it were left to librdkafka; the rest is a machine shared with others.
    assert took[0] < 2 * WAIT_S


