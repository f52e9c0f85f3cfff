"""One contract, every broker: what `librdkafka://` promises, on the embedded broker and on a real Kafka cluster.

Run as a program it is the worker that a test kills: `test_transport.py BOOTSTRAP GROUP TOPIC JOURNAL`.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import confluent_kafka
import faust
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from faust.types import TP
from mode.supervisors import CrashingSupervisor

from tests.kafka_cluster import KafkaCluster, why_unavailable
from tillstream.embedded.broker import Broker
from tillstream.streams.transport import Batch, StaleBatch, Transport

# Waiting for a group to form, on a machine shared with others; nothing here is a measurement.
LONG_S = 40.0
PARTITIONS = 4
# Recent: Kafka's retention goes by the records' own time, and removes a topic of old ones within minutes.
SENT_AT_MS = int(time.time() * 1000) - 60_000
# Kept for the whole session: an admin client that is collected in its own callback thread aborts the process.
ADMINS: dict[str, AdminClient] = {}
Handler = Callable[[Batch], Awaitable[None]]


@pytest.fixture(scope="session")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Three nodes of Apache Kafka."""
    reason = why_unavailable()
    if reason is not None:
        pytest.skip(f"NOT TESTED ON A REAL KAFKA: {reason}")
    with KafkaCluster(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[str]:
    """The embedded broker's address."""
    with Broker() as bootstrap:
        yield bootstrap


@pytest.fixture(params=["embedded", "cluster"])
def broker(request: pytest.FixtureRequest) -> str:
    """The address of each kind of broker in turn."""
    if request.param == "embedded":
        return str(request.getfixturevalue("embedded_broker"))
    cluster: KafkaCluster = request.getfixturevalue("kafka_cluster")
    return cluster.bootstrap


@dataclass
class Place:
    """A fresh topic and group on a broker, and what is sent to and committed in them."""

    bootstrap: str
    folder: Path
    topic: str = field(default_factory=lambda: f"t-{uuid.uuid4().hex[:8]}")
    group: str = field(default_factory=lambda: f"g-{uuid.uuid4().hex[:8]}")

    def __post_init__(self) -> None:
        self.config = {"bootstrap.servers": self.bootstrap, "log_level": 0}
        self.create(self.topic)

    def create(self, topic: str) -> None:
        replicas = len(self.bootstrap.split(","))
        if self.bootstrap not in ADMINS:
            ADMINS[self.bootstrap] = AdminClient(self.config)
        new = NewTopic(topic, PARTITIONS, min(replicas, 3))
        try:
            ADMINS[self.bootstrap].create_topics([new])[topic].result(LONG_S)
        except KafkaException as reason:
            # The name is nobody else's: a busy broker has answered librdkafka's second attempt.
            if reason.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    def send(self, count: int, partitions: int = PARTITIONS, first: int = 0, size: int = 0, topic: str = "") -> None:
        """Send records `first` to `first + count - 1`, round robin; in order, whatever has to be sent again."""
        failures: list[object] = []
        producer = Producer({**self.config, "linger.ms": 1, "enable.idempotence": True})
        for number in range(first, first + count):
            producer.produce(
                topic or self.topic,
                value=str(number).encode().ljust(size),
                key=f"k{number}".encode(),
                partition=number % partitions,
                headers=[("n", str(number).encode())],
                timestamp=SENT_AT_MS + number,
                on_delivery=lambda error, _message: failures.append(error) if error else None,
            )
            if number % 1000 == 0:
                producer.poll(0)
        assert producer.flush(LONG_S) == 0
        assert not failures

    def committed(self, topic: str = "") -> dict[int, int]:
        """Committed offset by partition; 0 where nothing was."""
        asker = Consumer({**self.config, "group.id": self.group})
        try:
            wanted = [TopicPartition(topic or self.topic, number) for number in range(PARTITIONS)]
            return {p.partition: max(p.offset, 0) for p in asker.committed(wanted, LONG_S)}
        finally:
            asker.close()


@pytest.fixture
def place(broker: str, tmp_path: Path) -> Place:
    return Place(broker, tmp_path)


def build(place: Place, handle: Handler, *, topics: tuple[str, ...] = (), **options: Any) -> faust.App:
    """An app with one agent over `topics` that awaits `handle` with every batch."""
    agent = {"concurrency": options.pop("concurrency", PARTITIONS)}
    if options.pop("isolated_partitions", False):
        agent = {"isolated_partitions": True}
    batch_rows_max = options.pop("batch_rows_max", 2000)
    app = faust.App(
        place.group,
        broker=[f"librdkafka://{address}" for address in place.bootstrap.split(",")],
        datadir=place.folder / uuid.uuid4().hex,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        broker_session_timeout=3.0,
        broker_heartbeat_interval=0.5,
        broker_max_poll_interval=10.0,
        broker_commit_interval=0.2,
        **{"agent_supervisor": CrashingSupervisor, **options},
    )
    Transport.of(app).batch_rows_max = batch_rows_max

    async def work(stream: Any) -> None:
        async for batch in stream:
            await handle(batch)

    app.agent(app.topic(*(topics or (place.topic,))), name="work", **agent)(work)
    return app


@asynccontextmanager
async def running(app: faust.App) -> AsyncIterator[faust.App]:
    """Run `app` in this loop."""
    try:
        await app.start()
        yield app
    finally:
        await app.stop()


async def until(condition: Callable[[], bool], what: str, seconds: float = LONG_S) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
        await asyncio.sleep(0.01)


class Seen:
    """A handler that notes what it is given."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.numbers: dict[int, list[int]] = defaultdict(list)
        self.next_offset: dict[int, int] = defaultdict(int)

    async def __call__(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.numbers[batch.partition] += [int(message.value()) for message in batch.messages]
        self.next_offset[batch.partition] = batch.last_offset + 1

    @property
    def count(self) -> int:
        return sum(map(len, self.numbers.values()))


def test_delivery_of_many_records_is_once_in_order_and_whole(place: Place) -> None:
    async def scenario() -> None:
        seen = Seen()
        place.send(5000)
        async with running(build(place, seen, batch_rows_max=300)):
            await until(lambda: seen.count >= 5000, "5000 records")
        assert dict(seen.numbers) == {p: list(range(p, 5000, PARTITIONS)) for p in range(4)}
        assert max(map(len, seen.batches)) <= 300
        for batch in seen.batches:
            assert (batch.topic, batch.first_offset) == (place.topic, batch.messages[0].offset())
            assert batch.last_offset == batch.messages[-1].offset()
            for message in batch.messages:
                number = int(message.value())
                assert message.key() == f"k{number}".encode()
                assert message.headers() == [("n", str(number).encode())]
                assert message.timestamp() == (confluent_kafka.TIMESTAMP_CREATE_TIME, SENT_AT_MS + number)
        assert place.committed() == dict.fromkeys(range(PARTITIONS), 1250)

    asyncio.run(scenario())


def test_partitions_are_in_progress_together_each_one_batch_at_a_time(place: Place) -> None:
    async def scenario() -> None:
        busy: Counter[int] = Counter()
        together = 0
        seen = Seen()

        async def handle(batch: Batch) -> None:
            nonlocal together
            busy[batch.partition] += 1
            assert busy[batch.partition] == 1
            together = max(together, busy.total())
            await asyncio.sleep(0.02)
            busy[batch.partition] -= 1
            await seen(batch)

        place.send(2000)
        async with running(build(place, handle, batch_rows_max=50)):
            await until(lambda: seen.count == 2000, "2000 records")
        assert together == PARTITIONS
        assert all(numbers == sorted(numbers) for numbers in seen.numbers.values())

    asyncio.run(scenario())


def test_isolated_partitions_in_one_worker_deliver_everything(place: Place) -> None:
    async def scenario() -> None:
        seen = Seen()
        place.send(1000)
        async with running(build(place, seen, isolated_partitions=True)):
            await until(lambda: seen.count == 1000, "1000 records")
        assert place.committed() == dict.fromkeys(range(PARTITIONS), 250)

    asyncio.run(scenario())


def test_agent_that_raises_commits_nothing_of_its_batch_and_the_next_worker_gets_it(place: Place) -> None:
    async def scenario() -> None:
        seen = Seen()

        async def poisoned(batch: Batch) -> None:
            if any(int(message.value()) == 401 for message in batch.messages):
                raise RuntimeError("poison")
            await seen(batch)

        place.send(800)
        app = build(place, poisoned, batch_rows_max=20)
        async with running(app):
            await until(app._crashed.is_set, "the crash")
        committed = place.committed()
        assert all(committed[p] <= seen.next_offset[p] for p in range(PARTITIONS))
        assert committed[1] <= 100
        async with running(build(place, seen)):
            await until(lambda: {n for p in seen.numbers.values() for n in p} == set(range(800)), "the union")
        assert sorted(place.committed().values()) == [200] * PARTITIONS

    asyncio.run(scenario())


def test_agent_that_is_restarted_gets_the_same_batch_again(place: Place) -> None:
    async def scenario() -> None:
        seen = Seen()
        failures: list[Batch] = []

        async def flaky(batch: Batch) -> None:
            if len(failures) < 2:
                failures.append(batch)
                raise RuntimeError("for the moment")
            await seen(batch)

        place.send(400, partitions=1)
        options: dict[str, Any] = {"agent_supervisor": "mode.supervisors.OneForOneSupervisor", "concurrency": 1}
        async with running(build(place, flaky, batch_rows_max=100, **options)):
            await until(lambda: seen.count >= 400, "400 records")
        assert seen.numbers[0] == list(range(400))
        assert failures[0] is failures[1] is seen.batches[0]

    asyncio.run(scenario())


def test_worker_killed_in_the_middle_of_a_batch_loses_nothing(place: Place) -> None:
    async def scenario() -> None:
        seen = Seen()
        journal = place.folder / "journal"
        place.send(2000)
        process = spawn_worker(place, journal)
        try:
            await until(lambda: journal.exists() and journal.read_text().count("begin") > 12, "some batches")
            await until(lambda: any(place.committed().values()), "a commit")
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        lines = [line.split() for line in journal.read_text().splitlines()]
        done: dict[int, int] = defaultdict(int)
        for word, partition, end in lines:
            if word == "done":
                done[int(partition)] = int(end)
        assert [word for word, *_ in lines].count("begin") > [word for word, *_ in lines].count("done")
        committed = place.committed()
        assert all(committed[p] <= done[p] for p in range(PARTITIONS))
        async with running(build(place, seen)):
            await until(lambda: sum(seen.next_offset.values()) == 2000, "the rest")
        for p in range(PARTITIONS):
            assert next(batch.first_offset for batch in seen.batches if batch.partition == p) == committed[p]
            assert seen.numbers[p] == list(range(p, 2000, 4))[committed[p] :]

    asyncio.run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("agent", [{"concurrency": 4}, {"isolated_partitions": True}], ids=["shared", "isolated"])
def test_rebalances_under_load_lose_nothing_and_never_commit_ahead(place: Place, agent: dict[str, Any]) -> None:
    async def scenario() -> None:
        done: dict[int, int] = defaultdict(int)
        numbers: Counter[int] = Counter()
        by_worker: dict[str, set[int]] = defaultdict(set)

        def handler(name: str) -> Handler:
            async def handle(batch: Batch) -> None:
                await asyncio.sleep(0.02)
                numbers.update(int(message.value()) for message in batch.messages)
                done[batch.partition] = max(done[batch.partition], batch.last_offset + 1)
                by_worker[name].add(batch.partition)

            return handle

        async def produce() -> None:
            for start in range(0, 12000, 800):
                await asyncio.to_thread(place.send, 800, first=start)
                await asyncio.sleep(0.1)

        async def watch() -> None:
            while True:
                committed = await asyncio.to_thread(place.committed)
                assert all(committed[p] <= done[p] for p in range(PARTITIONS)), (committed, done)
                await asyncio.sleep(0.1)

        def app(name: str) -> faust.App:
            return build(place, handler(name), batch_rows_max=40, **agent)

        tasks = [asyncio.create_task(produce()), asyncio.create_task(watch())]
        try:
            async with running(app("a")):
                await until(lambda: len(numbers) > 500, "the first worker")
                async with running(app("b")):
                    await until(lambda: by_worker["b"] != set(), "the second worker's part")
                await until(lambda: len(numbers) == 12000, f"the union, {len(numbers)} of 12000")
            assert not tasks[1].done(), tasks[1]
        finally:
            tasks[1].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert await asyncio.to_thread(place.committed) == dict.fromkeys(range(PARTITIONS), 3000)

    asyncio.run(scenario())


def test_stuck_agent_holds_a_bounded_number_of_rows_while_others_go_on(place: Place) -> None:
    async def scenario() -> None:
        seen = Seen()
        release = asyncio.Event()

        async def handle(batch: Batch) -> None:
            if batch.partition == 0:
                await release.wait()
            await seen(batch)

        app = build(place, handle, batch_rows_max=100)
        # A record of 100 bytes is counted as 400, so this is 100 records.
        Transport.of(app).backlog_bytes_max = 40_000
        async with running(app):
            place.send(20000, size=100)
            await until(lambda: sum(map(len, seen.numbers.values())) == 15000, "the other partitions")
            rows, size = Transport.of(app).consumer.in_flight.sizes()[TP(place.topic, 0)]
            assert 0 < rows <= 300
            assert size <= 300 * 500
            assert seen.numbers[0] == []
            release.set()
            await until(lambda: seen.count == 20000, "the stuck partition")
        assert all(numbers == list(range(p, 20000, 4)) for p, numbers in seen.numbers.items())

    asyncio.run(scenario())


def test_assignment_hooks_run_first_and_override_where_to_start(place: Place) -> None:
    async def scenario() -> None:
        seen = Seen()
        order: list[str] = []

        async def slow_hook(assigned: set[TP]) -> dict[TP, int]:
            assert {tp.partition for tp in assigned} == set(range(PARTITIONS))
            await asyncio.sleep(0.3)
            order.append("slow")
            return {TP(place.topic, 0): 60, TP(place.topic, 2): 10}

        async def second_hook(assigned: set[TP]) -> dict[TP, int]:
            order.append("second")
            return {TP(place.topic, 2): 75}

        async def handle(batch: Batch) -> None:
            order.append("batch")
            await seen(batch)

        place.send(400)
        app = build(place, handle)
        Transport.of(app).assignment_hooks += [slow_hook, second_hook]
        async with running(app):
            await until(lambda: seen.count >= 40 + 100 + 25 + 100, "the records behind the overrides")
        assert order[:3] == ["slow", "second", "batch"]
        assert {p: numbers[0] // 4 for p, numbers in seen.numbers.items()} == {0: 60, 1: 0, 2: 75, 3: 0}

    asyncio.run(scenario())


def test_single_record_on_an_idle_stream_arrives_soon(place: Place) -> None:
    async def scenario() -> None:
        seen = Seen()
        async with running(build(place, seen)):
            place.send(1)
            await until(lambda: seen.count == 1, "the first")
            for number in range(1, 6):
                await asyncio.sleep(0.1)
                place.send(1, first=number)
                await until(lambda n=number: seen.count == n + 1, "a lone record", 1.0)  # type: ignore[misc]

    asyncio.run(scenario())


def test_externally_committed_topic_is_left_alone(place: Place) -> None:
    async def scenario() -> None:
        seen = Seen()
        other = f"{place.topic}-other"
        place.create(other)
        place.send(400)
        place.send(400, topic=other)
        app = build(place, seen, topics=(place.topic, other))
        Transport.of(app).externally_committed_topics.add(place.topic)
        async with running(app):
            await until(lambda: seen.count == 800, "both topics")
            await until(lambda: place.committed(other) == dict.fromkeys(range(4), 100), "the other's commit")
        assert place.committed() == dict.fromkeys(range(4), 0)

    asyncio.run(scenario())


def test_transaction_commits_offsets_with_its_records_and_stale_batches_are_refused(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    async def scenario() -> None:
        place = Place(kafka_cluster.bootstrap, tmp_path)
        producer = Producer({**place.config, "transactional.id": place.group})
        producer.init_transactions(LONG_S)
        seen = Seen()

        async def handle(batch: Batch) -> None:
            producer.begin_transaction()
            metadata = Transport.of(app).consumer.consumer_group_metadata(batch)
            positions = [TopicPartition(batch.topic, batch.partition, batch.last_offset + 1)]
            producer.send_offsets_to_transaction(positions, metadata)
            producer.commit_transaction()
            await seen(batch)

        place.send(400)
        app = build(place, handle, concurrency=1)
        Transport.of(app).externally_committed_topics.add(place.topic)
        async with running(app):
            await until(lambda: seen.count == 400, "400 records")
        assert place.committed() == dict.fromkeys(range(4), 100)
        with pytest.raises(StaleBatch):
            Transport.of(app).consumer.consumer_group_metadata(Batch(place.topic, 0, [], 0, 0, generation=99))

    asyncio.run(scenario())


@pytest.mark.slow
def test_batch_that_outlives_its_partition_is_neither_committed_nor_waited_for_long(place: Place) -> None:
    async def scenario() -> None:
        release = asyncio.Event()
        stuck: list[Batch] = []
        refused: list[Batch] = []
        first, second = Seen(), Seen()

        async def handle(batch: Batch) -> None:
            stuck.append(batch)
            await release.wait()
            try:
                Transport.of(slow).consumer.consumer_group_metadata(batch)
            except StaleBatch:
                refused.append(batch)
            await first(batch)

        place.send(400)
        slow = build(place, handle)
        Transport.of(slow).revoke_wait_s = 0.5
        quick = build(place, second)
        async with running(slow):
            await until(lambda: len({batch.partition for batch in stuck}) == PARTITIONS, "all stuck")
            async with running(quick):
                await until(lambda: second.count > 0, "the second worker's part")
                mine = {tp.partition for tp in quick.consumer.assignment()}
                release.set()
                await until(lambda: second.count + first.count >= 800, "what was stuck, twice")
                assert set(refused) == set(stuck[:PARTITIONS])
                assert mine
        assert place.committed() == dict.fromkeys(range(PARTITIONS), 100)

    asyncio.run(scenario())


@pytest.mark.slow
def test_broker_killed_and_restarted_leaves_the_stream_running(kafka_cluster: KafkaCluster, tmp_path: Path) -> None:
    async def scenario() -> None:
        seen = Seen()
        place = Place(kafka_cluster.bootstrap, tmp_path)
        async with running(build(place, seen)):
            place.send(400)
            await until(lambda: seen.count == 400, "before")
            await asyncio.to_thread(kafka_cluster.kill, 1)
            try:
                await asyncio.to_thread(place.send, 400, first=400)
                await until(lambda: seen.count >= 800, "while a node is down")
            finally:
                await asyncio.to_thread(kafka_cluster.start, 1)
            await asyncio.to_thread(place.send, 400, first=800)
            await until(lambda: seen.count >= 1200, "after")
        assert {n for p in seen.numbers.values() for n in p} == set(range(1200))
        assert place.committed() == dict.fromkeys(range(PARTITIONS), 300)

    asyncio.run(scenario())


def test_faust_producer_agrees_with_java_on_partitions_and_keeps_headers(place: Place) -> None:
    async def scenario() -> None:
        seen = Seen()
        app = build(place, seen, concurrency=1)
        async with running(app):
            await app.producer.create_topic(place.topic, PARTITIONS, 1)
            await app.producer.create_topic(f"{place.topic}-new", 2, 1, retention=60.0, compacting=True)
            topic = app.topic(place.topic, value_serializer="raw", key_serializer="raw")
            # murmur2 of these keys, from the tests of Kafka's own clients, modulo 4.
            for key, partition in ((b"21", 0), (b"foobar", 2), (b"a-little-bit-longer-string", 3)):
                sent = await (await topic.send(key=key, value=b"7", headers={"h": b"1"}, timestamp=SENT_AT_MS / 1000))
                assert sent.partition == app.producer.key_partition(place.topic, key).partition
                assert sent.partition == partition
            await until(lambda: seen.count == 3, "the records")
        message = seen.batches[0].messages[0]
        assert (message.headers(), message.timestamp()[1]) == ([("h", b"1")], SENT_AT_MS)

    asyncio.run(scenario())


def spawn_worker(place: Place, journal: Path) -> subprocess.Popen[bytes]:
    """Run this file as a worker."""
    command = [sys.executable, __file__, place.bootstrap, place.group, place.topic, str(journal)]
    root = str(Path(__file__).parent.parent)
    return subprocess.Popen(command, cwd=place.folder, env={**os.environ, "PYTHONPATH": root})


def work_until_killed(bootstrap: str, group: str, topic: str, journal: str) -> None:
    """Process batches slowly, writing down where each begins and ends."""
    place = Place.__new__(Place)
    place.bootstrap, place.group, place.topic, place.folder = bootstrap, group, topic, Path(journal).parent

    with Path(journal).open("a", buffering=1) as book:

        async def handle(batch: Batch) -> None:
            book.write(f"begin {batch.partition} {batch.first_offset}\n")
            await asyncio.sleep(0.1)
            book.write(f"done {batch.partition} {batch.last_offset + 1}\n")

        async def serve() -> None:
            async with running(build(place, handle, batch_rows_max=20)):
                await asyncio.sleep(LONG_S)

        asyncio.run(serve())


if __name__ == "__main__":
    work_until_killed(*sys.argv[1:])
