"""The pipeline on real servers, for tests: a broker, a Redis, workers as processes; events in, end state out.

In: `stage(folder)` starts the embedded broker and Redis, `Stage(config, redis)` stands on servers that run already. Out: what Kafka and
Redis hold when everything that was sent has been worked off, in a form that compares with `Simulation` and with itself.
"""

import asyncio
import os
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
import redis
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from tests.kafka_cluster import KafkaCluster, why_unavailable
from tillstream.config import Config, load_program
from tillstream.embedded.broker import Broker
from tillstream.embedded.redis import Redis
from tillstream.installation import WorkerProcess
from tillstream.kernels.holdings import Units
from tillstream.kernels.identities import Seal
from tillstream.kernels.sealing import seal_event
from tillstream.schemas.deadletter import DeadLetter, DeadLetterRecord
from tillstream.schemas.events import decode
from tillstream.schemas.ledger import Posting, Waiting, decode_record
from tillstream.schemas.program_file import Versioned, parse_program
from tillstream.simulate import IDENTITY_KEY, Simulation
from tillstream.sinks.redis import connect
from tillstream.sinks.registry import RegistryStore
from tillstream.sinks.state import read_standing
from tillstream.sinks.writer import PRODUCER
from tillstream.sources import generated
from tillstream.sources.faults import inject
from tillstream.streams.topics import DEADLETTER, MEMBERS, RECEIPTS, TRANSACTIONS, ensure_topics

Event = dict[str, Any]

PARTITIONS = 4
"""More than a worker has in progress of one kind, few enough to start at once."""

SESSION_MS = 6_000
"""The embedded broker takes no shorter session."""

SETTLED_S = 60.0
"""Joining a group after a killed worker takes a session and a half; the rest is a machine shared with others."""

ANSWER_S = 15.0
STEP_S = 0.05

PROGRAM = """
[program]
id = "proof"
currency = "PLN"
time_zone = "Europe/Warsaw"

[units.points]
expires = { after_days = 20 }

[units.stamps]

[[rules]]
id = "base"
award = { points = 1, per_amount = 100 }
exclude = { category = ["tobacco/**"], kind = ["deposit", "fee"] }

[[rules]]
id = "dairy-double"
lines = { category = ["dairy/**"] }
award = { multiply = 2, of = "base" }

[[rules]]
id = "basket"
when = { min_amount = 10000, min_positions = 5 }
award = { fixed = 50 }

[[rules]]
id = "coffee-stamps"
unit = "stamps"
lines = { category = ["grocery/coffee/**", "bakery/**"] }
award = { points = 1, per_item = 1 }
"""


@pytest.fixture(scope="module")
def kafka_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """Three nodes of Apache Kafka."""
    reason = why_unavailable()
    if reason is not None:
        pytest.skip(f"NOT TESTED ON A REAL KAFKA: {reason}")
    with KafkaCluster(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster


def program() -> Versioned:
    """The program of these tests: two units, one of which expires; rules that round, spread and depend on the whole receipt."""
    return parse_program(PROGRAM)


class Stage:
    """Servers, and what a test does to them."""

    def __init__(self, config: Config, server: Redis, folder: Path) -> None:
        self.config = config
        self.server = server
        self.folder = folder
        self.kafka = {"bootstrap.servers": config.kafka, "log_level": 0}
        self.workers = 0
        # Of the workers' group, to see its offsets; it subscribes to nothing and so is no member.
        looking = {"group.id": "tillstream-points", "enable.auto.commit": False, "enable.partition.eof": True, "fetch.wait.max.ms": 20}
        self.looking = Consumer({**self.kafka, **looking})

    @contextmanager
    def worker(self) -> Iterator[WorkerProcess]:
        """A worker that gives points, ended by its own pid."""
        self.workers += 1
        worker = WorkerProcess(self.config, "points", self.folder / f"worker-{self.workers}")
        worker.start()
        try:
            yield worker
        finally:
            worker.stop()

    def send(self, events: Iterable[Event | bytes], topic: str = RECEIPTS, key: str | None = None) -> None:
        """Sends events, or raw records, acknowledged when this returns; receipts go by their till, as `Sender` sends them."""
        failures: list[object] = []
        producer = Producer({**PRODUCER, **self.kafka})
        for event in events:
            value = event if isinstance(event, bytes) else orjson.dumps(event)
            by = key if key is not None or isinstance(event, bytes) else event["source"]
            producer.produce(topic, value, by and by.encode(), on_delivery=lambda error, _: failures.append(error) if error else None)
            producer.poll(0)
        assert producer.flush(ANSWER_S) == 0
        assert not failures

    def ends(self, topic: str, partitions: int) -> dict[int, int]:
        """The next offset of each partition; by reading, since the embedded broker's watermarks leave out the last batch."""
        found: dict[int, int] = {}
        deadline = time.monotonic() + ANSWER_S
        places = [TopicPartition(topic, p) for p in range(partitions)]
        lasts = [max(0, self.looking.get_watermark_offsets(place, ANSWER_S)[1] - 1) for place in places]
        self.looking.assign([TopicPartition(topic, p, last) for p, last in enumerate(lasts)])
        while len(found) < partitions and time.monotonic() < deadline:
            message = self.looking.poll(STEP_S)
            if message is not None and message.error() and message.topic() == topic:
                found[message.partition() or 0] = message.offset() or 0
        self.looking.unassign()
        return dict(sorted(found.items()))

    def committed(self, topic: str, partitions: int) -> dict[int, int]:
        """What the workers have committed; 0 where nothing."""
        places = self.looking.committed([TopicPartition(topic, p) for p in range(partitions)], ANSWER_S)
        return {place.partition: max(place.offset, 0) for place in places}

    def records(self, topic: str, partitions: int = PARTITIONS) -> list[Message]:
        """All committed records of a topic, partition by partition."""
        return [message for p in range(partitions) for message in self.partition_records(topic, p)]

    def partition_records(self, topic: str, partition: int) -> list[Message]:
        """All committed records of one partition, in order."""
        # Told the end at once: the broker would hold its answer for half a second.
        config = {**self.kafka, "group.id": "reader", "enable.partition.eof": True, "fetch.wait.max.ms": 10}
        consumer = Consumer(config)
        found: list[Message] = []
        deadline = time.monotonic() + SETTLED_S
        try:
            consumer.assign([TopicPartition(topic, partition, 0)])
            while time.monotonic() < deadline:
                message = consumer.poll(STEP_S)
                if message is not None and message.error():
                    return found
                if message is not None:
                    found.append(message)
        finally:
            consumer.close()
        raise TimeoutError(f"{topic} {partition} has no end")

    def dead_letters(self) -> list[DeadLetter]:
        """What was refused, in order."""
        decoder = msgspec.json.Decoder(DeadLetterRecord)
        return [decoder.decode(message.value() or b"").data for message in self.records(DEADLETTER, 1)]

    def settle(self, worker: WorkerProcess | None = None) -> None:
        """Waits until everything that was sent is routed, posted and in Redis."""
        until(lambda: self.settled(worker), "everything worked off", SETTLED_S, worker)

    def settled(self, worker: WorkerProcess | None = None) -> bool:
        """Whether the worker has nothing left to do."""
        # In the order of the flow: what is behind has to be looked at after what is before it.
        if self.committed(RECEIPTS, PARTITIONS) != self.ends(RECEIPTS, PARTITIONS):
            return False
        if self.committed(MEMBERS, 1) != self.ends(MEMBERS, 1):
            return False
        return self.offsets() == {p: end - 1 for p, end in self.ends(TRANSACTIONS, PARTITIONS).items()}

    def offsets(self) -> dict[int, int]:
        """Where Redis stands, per partition."""
        with self.client() as client:
            metas = {p: client.hmget(f"{{p{p}}}:meta", "offset", "ledger", "as_of") for p in range(PARTITIONS)}
        return {p: read_standing(meta).offset for p, meta in metas.items()}

    def posted(self) -> int:
        """Postings in Redis."""
        with self.client() as client:
            return sum(client.hlen(f"{{p{p}}}:postings") for p in range(PARTITIONS))

    def client(self) -> Any:
        """A synchronous client of the stage's Redis."""
        return redis.Redis.from_url(self.config.redis)

    def state(self) -> dict[str, Any]:
        """Everything that Redis holds of accounts, postings, returns and waiting events, decoded; indexes left out."""
        found: dict[str, Any] = {}
        with self.client() as client:
            for p in range(PARTITIONS):
                for name in ("accounts", "postings", "returned", "waiting"):
                    for field, raw in client.hgetall(f"{{p{p}}}:{name}").items():
                        found[f"{p} {name} {field.decode()}"] = orjson.loads(raw)
        return found

    def balances(self) -> dict[str, Any]:
        """Accounts in the form of `Simulation.result()`."""
        return standing_of(self.state(), self.as_of(), self.groups())

    def groups(self) -> dict[str, list[str]]:
        """The accounts that belong together, as the registry in Redis has it."""

        async def asked() -> dict[str, list[str]]:
            async with connect(self.config.redis) as client:
                accounts = [name.decode() for p in range(PARTITIONS) for name in await client.hkeys(f"{{p{p}}}:accounts")]
                return (await RegistryStore(client).of_accounts(accounts)).groups()

        with ThreadPoolExecutor(1) as thread:  # A test may be in an event loop of its own.
            return thread.submit(asyncio.run, asked()).result()

    def as_of(self) -> str | None:
        """The latest tick that every partition has seen."""
        with self.client() as client:
            dates = [client.hget(f"{{p{p}}}:meta", "as_of") or b"" for p in range(PARTITIONS)]
        return min(dates).decode() or None


def standing_of(state: dict[str, Any], as_of: str | None, groups: Mapping[str, list[str]]) -> dict[str, Any]:
    """Redis' accounts as a simulation prints them: what holds nothing is left out."""
    simulation = Simulation(program())
    simulation.snapshot.groups = groups
    simulation.snapshot.as_of = as_of
    for name, units in state.items():
        _, kind, account_id = name.split(" ", 2)
        if kind == "accounts":
            assert account_id not in simulation.snapshot.accounts, f"{account_id} is in two partitions"
            simulation.snapshot.accounts[account_id] = msgspec.convert(units, type=Units)
    accounts: dict[str, Any] = simulation.result()["accounts"]
    return accounts


def expected(events: Iterable[Event | bytes], phone_region: str = "") -> dict[str, Any]:
    """What `simulate` makes of the same events."""
    simulation = Simulation(program(), phone_region=phone_region)
    simulation.run(event if isinstance(event, bytes) else orjson.dumps(event) for event in events)
    return simulation.result()


def history(count: int, seed: int, **faults: float) -> list[Event]:
    """Generated sales with duplicates, returns, early ones among them, voids and late ones."""
    shares = {"duplicates": 0.05, "returns": 0.15, "late": 0.05, "voids": 0.03, **faults}
    sales = generated.receipts(count, seed, members=max(20, count // 20))
    return list(inject(sales, seed, time_zone=generated.TIME_ZONE, delay_events_max=max(2, count // 5), **shares))


def as_stored(event: Event) -> Event:
    """An event as our own topics hold it: without personal values."""
    raw = orjson.dumps(event)
    found: Event = orjson.loads(seal_event(decode(raw), raw, Seal(IDENTITY_KEY))[1])
    return found


def enrolled(member_id: str, *cards: str) -> Event:
    """A member and the cards that lead there."""
    identities = [{"scheme": "card", "value": card} for card in cards]
    data = {"member_id": member_id, "identities": identities}
    envelope = {"specversion": "1.0", "id": f"enrol-{member_id}", "source": "crm", "time": "2026-03-01T00:00:00Z"}
    return {**envelope, "type": "member.enrolled", "data": data}


def tick(day: str) -> Event:
    """The clock."""
    envelope = {"specversion": "1.0", "id": f"tick-{day}", "source": "clock", "time": f"{day}T00:00:00Z"}
    return {**envelope, "type": "clock.tick", "data": {"date": day}}


def source_offsets(messages: Iterable[Message]) -> dict[int, list[tuple[int, str]]]:
    """Per partition of the ledger, the (source offset, posting) pairs in order; ticks, which have no offset of their own, left out."""
    found: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for message in messages:
        record = decode_record(message.value() or b"")
        if isinstance(record, Waiting) or (isinstance(record, Posting) and record.kind != "tick"):
            found[message.partition() or 0].append((record.offset, record.posting_id))
    return found


def until(holds: Callable[[], bool], what: str, seconds: float, worker: WorkerProcess | None = None) -> None:
    """Waits for something, and shows the worker's last words where it dies meanwhile."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert worker is None or worker.running, "\n".join(worker.log_tail()) if worker else ""
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}\n" + ("\n".join(worker.log_tail()) if worker else "")
        time.sleep(STEP_S)


def pause(worker: WorkerProcess) -> None:
    """Stops a worker's process where it is, as a machine that hangs would."""
    os.kill(worker.pid, signal.SIGSTOP)


def resume(worker: WorkerProcess) -> None:
    """Lets it go on."""
    os.kill(worker.pid, signal.SIGCONT)


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """The embedded broker and Redis, with topics, for the program of these tests."""
    with ExitStack() as stack:
        broker = stack.enter_context(Broker())
        server = Redis(folder / "redis")
        stack.callback(server.stop)
        server.start()
        here = prepared(folder, broker, server, transactions=False)
        stack.callback(here.looking.close)
        yield here


def prepared(folder: Path, kafka: str, server: Redis, *, transactions: bool) -> Stage:
    """A stage on running servers; creates the topics."""
    path = folder / "program.toml"
    path.write_text(PROGRAM)
    load_program(str(path))
    config = Config(
        kafka=kafka,
        kafka_transactions=transactions,
        redis=server.address,
        program=str(path),
        identity_key=IDENTITY_KEY.decode(),
        gateway_auth=False,
        partitions=PARTITIONS,
        replication=3 if transactions else 1,
        session_ms=SESSION_MS,
        poll_interval_ms=6_000,
        batch_rows_max=200,
        log_level="warning",
    )
    ensure_topics(config.kafka, config.partitions, config.replication)
    return Stage(config, server, folder)
