"""`pipeline`: `accrue` end to end, from Kafka to Redis and ledger, against its peers.

In: how many receipts, how many runs. Out: medians, and the goals that they reach. Each run of each contender has a process of its own and
servers of its own, fresh and preloaded; the contenders take turns, so that whatever else the machine does hits them alike. Afterwards
Redis must hold the same points, and the ledger the same number of records, whoever worked; otherwise the run counts for nothing.

    bare        consumes and decodes, nothing else
    tillstream  the app of `tillstream worker`
    quix        Quix Streams, one function per event
    faust       a stock Faust agent, one event at a time
"""

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from redis import Redis

from loadtest.contender import Result, VoidRunError, contend
from loadtest.load import PARTITIONS, Prepared, expected_points, preload, prepare
from loadtest.per_event import BALANCES
from loadtest.report import Goal, Report, TableOf
from tillstream.embedded.broker import Broker
from tillstream.embedded.redis import Redis as RedisServer
from tillstream.kernels.holdings import Units
from tillstream.sinks.state import keys
from tillstream.streams.topics import LEDGER, ensure_topics

PEER_SHARE = 10
"""The slow peers get a tenth of the receipts: rates are compared, and a run of theirs would take minutes."""

PEER_MIN = 200
ANSWER_S = 15.0
READ_MAX = 500
QUIET_S = 1.0
"""After the last record expected, so long for one too many."""


class Contender(NamedTuple):
    """One way of doing the work; `slow` ones get a smaller load, `writes` tells whether there are points to compare."""

    name: str
    module: str
    slow: bool
    writes: bool


CONTENDERS = (
    Contender("bare", "loadtest.contend_bare", slow=False, writes=False),
    Contender("tillstream", "loadtest.contend_tillstream", slow=False, writes=True),
    Contender("quix", "loadtest.contend_quix", slow=True, writes=True),
    Contender("faust", "loadtest.contend_faust", slow=True, writes=True),
)


class Load(NamedTuple):
    """The receipts of one size of run, and what they must earn."""

    records: list[Prepared]
    points: int


def run(receipts: int, runs: int, progress: Callable[[str], None]) -> Report:
    """All runs of all contenders.

    Raises:
        VoidRunError: a contender failed, or came to other points than the others.
    """
    records = prepare(receipts)
    share = records[: max(min(PEER_MIN, receipts), receipts // PEER_SHARE)]
    loads = {slow: Load(some, expected_points(some)) for slow, some in ((False, records), (True, share))}
    results: dict[str, list[Result]] = {contender.name: [] for contender in CONTENDERS}
    for number in range(runs):
        for contender in CONTENDERS:
            result = run_once(contender, loads[contender.slow])
            results[contender.name].append(result)
            progress(f"run {number + 1}/{runs}  {contender.name:<10}  {result.rate:>10,.0f} receipts/s")
    return report(receipts, runs, results)


def run_once(contender: Contender, load: Load) -> Result:
    """One contender on fresh servers, its result checked."""
    with Broker() as kafka, RedisServer() as redis_url:
        ensure_topics(kafka, PARTITIONS, 1)
        preload(kafka, load.records)
        result = contend(contender.module, "--kafka", kafka, "--redis", redis_url, "--receipts", str(len(load.records)))
        if contender.writes:
            check(contender, kafka, redis_url, load)
    return result


def check(contender: Contender, kafka: str, redis_url: str, load: Load) -> None:
    """Compares what a contender left behind with what it had to do."""
    with Redis.from_url(redis_url) as client:
        points = own_points(client) if contender.name == "tillstream" else peer_points(client)
    if points != load.points:
        raise VoidRunError(f"{contender.name} came to {points:,} points, not to {load.points:,}: the run is void")
    records = ledger_records(kafka, len(load.records))
    if records != len(load.records):
        raise VoidRunError(f"{contender.name} wrote {records:,} ledger records, not {len(load.records):,}: the run is void")


def own_points(client: Redis) -> int:
    """The sum of all balances in tillstream's state."""
    decoder = msgspec.json.Decoder(Units)
    total = 0
    for partition in range(PARTITIONS):
        for _, raw in client.hscan_iter(keys(partition)[1], count=1_000):
            total += sum(holding.balance for holding in decoder.decode(raw).values())
    return total


def peer_points(client: Redis) -> int:
    """The sum of all balances that a peer wrote."""
    return sum(int(points) for _, points in client.hscan_iter(BALANCES, count=1_000))


def ledger_records(kafka: str, expected: int) -> int:
    """Records of the ledger, all partitions; read one by one, since the embedded broker's watermarks leave out the last batch."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "loadtest-check", "fetch.wait.max.ms": 10})
    consumer.assign([TopicPartition(LEDGER, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
    count, deadline = 0, time.monotonic() + ANSWER_S
    try:
        while messages := consumer.consume(READ_MAX, QUIET_S if count >= expected else max(QUIET_S, deadline - time.monotonic())):
            count += sum(message.error() is None for message in messages)
    finally:
        consumer.close()
    return count


def report(receipts: int, runs: int, results: dict[str, list[Result]]) -> Report:
    """Medians and goals."""
    rate = {name: median(result.rate for result in each) for name, each in results.items()}
    own = rate["tillstream"]
    goals = [
        Goal("accrue / stock Faust agent", 10.0, own / rate["faust"]),
        Goal("accrue / Quix Streams", 3.0, own / rate["quix"]),
        Goal("accrue / bare loop", 0.30, own / rate["bare"]),
    ]
    figures, rows = {}, []
    for name, each in results.items():
        cpu_us = median(result.cpu_s / result.receipts * 1e6 for result in each)
        rss = max(result.rss_mib for result in each)
        starved = median(result.starved_s / result.seconds for result in each)
        figures[name] = {
            "receipts": each[0].receipts,
            "receipts_per_s": [round(result.rate) for result in each],
            "median_receipts_per_s": round(rate[name]),
            "cpu_us_per_receipt": round(cpu_us, 1),
            "starved_share": round(starved, 2),
            "rss_peak_mib": round(rss),
        }
        each_us = [f"{1e6 / rate[name]:,.0f}", f"{cpu_us:,.0f}", f"{starved:.0%}"]
        rows.append([name, f"{each[0].receipts:,}", f"{rate[name]:,.0f}", *each_us, f"{own / rate[name]:.2f}", f"{rss:,.0f}"])
    columns = ["contender", "receipts", "per s", "µs each", "CPU µs", "starved", "× own", "MiB"]
    notes = [
        f"medians of {runs}; servers and process fresh for every run; points and ledger records checked after every run",
        f"quix and faust had {figures['faust']['receipts']:,} receipts and are compared by rate",
        "CPU µs: all threads of the contender, per receipt; × own: how many times as fast tillstream is; MiB: peak memory",
        "starved: how much of the time the main thread was ready and had no CPU; much of that, and the rates say little",
    ]
    asked = {"receipts": receipts, "runs": runs}
    return Report("pipeline", asked, figures, goals, [TableOf("From Kafka to Redis and ledger", columns, rows)], notes)
