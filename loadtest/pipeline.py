"""`pipeline`: `accrue` end to end, from Kafka to Redis and ledger, against its peers.

In: how many receipts, how many runs. Out: medians, and the goals that they reach. Each run of each contender has a process of its own and
servers of its own, fresh and preloaded; the contenders take turns, so that whatever else the machine does hits them alike. Afterwards
Redis must hold the same points, and the ledger the same number of records, whoever worked; otherwise the run counts for nothing.

    bare        consumes and decodes, nothing else
    tillstream  the app of `tillstream worker`, with ten rules
    fifty       the same with fifty rules that look at members
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
from loadtest.load import PARTITIONS, Prepared, expected_member_points, expected_points, preload, prepare
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
    """One way of doing the work; `slow` ones get a smaller load, `writes` tells whether there are points to compare, `program` whose."""

    name: str
    module: str
    slow: bool
    writes: bool
    program: str = "ten"


CONTENDERS = (
    Contender("bare", "loadtest.contend_bare", slow=False, writes=False),
    Contender("tillstream", "loadtest.contend_tillstream", slow=False, writes=True),
    Contender("fifty", "loadtest.contend_tillstream", slow=False, writes=True, program="fifty"),
    Contender("quix", "loadtest.contend_quix", slow=True, writes=True),
    Contender("faust", "loadtest.contend_faust", slow=True, writes=True),
)


class Load(NamedTuple):
    """The receipts of one size of run, and what they must earn by program."""

    records: list[Prepared]
    points: dict[str, int]


def run(receipts: int, runs: int, progress: Callable[[str], None], program: str = "both") -> Report:
    """All runs of all contenders: with ten rules tillstream and its peers, with fifty tillstream alone, or both.

    Raises:
        VoidRunError: a contender failed, or came to other points than the others.
    """
    records = prepare(receipts)
    share = records[: max(min(PEER_MIN, receipts), receipts // PEER_SHARE)]
    contenders = [contender for contender in CONTENDERS if program in {"both", contender.program}]
    loads = {slow: Load(some, points_of(some, program)) for slow, some in ((False, records), (True, share))}
    results: dict[str, list[Result]] = {contender.name: [] for contender in contenders}
    for number in range(runs):
        for contender in contenders:
            result = run_once(contender, loads[contender.slow])
            results[contender.name].append(result)
            progress(f"run {number + 1}/{runs}  {contender.name:<10}  {result.rate:>10,.0f} receipts/s")
    return report(receipts, runs, results)


def points_of(records: list[Prepared], program: str) -> dict[str, int]:
    """What the receipts earn by each of the programs asked for."""
    found = {"ten": expected_points, "fifty": expected_member_points}
    return {name: points(records) for name, points in found.items() if program in {"both", name}}


def run_once(contender: Contender, load: Load) -> Result:
    """One contender on fresh servers, its result checked."""
    with Broker() as kafka, RedisServer() as redis_url:
        ensure_topics(kafka, PARTITIONS, 1)
        preload(kafka, load.records)
        servers, task = ("--kafka", kafka, "--redis", redis_url), ("--receipts", str(len(load.records)), "--program", contender.program)
        result = contend(contender.module, *servers, *task)
        if contender.writes:
            check(contender, kafka, redis_url, load)
    return result


def check(contender: Contender, kafka: str, redis_url: str, load: Load) -> None:
    """Compares what a contender left behind with what it had to do."""
    with Redis.from_url(redis_url) as client:
        points = own_points(client) if contender.module == "loadtest.contend_tillstream" else peer_points(client)
    expected = load.points[contender.program]
    if points != expected:
        raise VoidRunError(f"{contender.name} came to {points:,} points, not to {expected:,}: the run is void")
    records = ledger_records(kafka, len(load.records))
    if records < len(load.records) or (records > len(load.records) and contender.program == "ten"):  # A late event may correct others.
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
    own = rate.get("tillstream", rate.get("fifty", 0.0))
    wanted = {"faust": ("accrue / stock Faust agent", 10.0), "quix": ("accrue / Quix Streams", 3.0), "bare": ("accrue / bare loop", 0.30)}
    goals = [Goal(text, least, own / rate[name]) for name, (text, least) in wanted.items() if name in rate]
    if "fifty" in rate and "tillstream" in rate:
        goals.append(Goal("fifty rules / ten rules", 0.70, rate["fifty"] / own))
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
        *(f"{name} had {figures[name]['receipts']:,} receipts and is compared by rate" for name in ("quix", "faust") if name in figures),
        "CPU µs: all threads of the contender, per receipt; × own: how many times as fast tillstream is; MiB: peak memory",
        "starved: how much of the time the main thread was ready and had no CPU; much of that, and the rates say little",
    ]
    asked = {"receipts": receipts, "runs": runs}
    return Report("pipeline", asked, figures, goals, [TableOf("From Kafka to Redis and ledger", columns, rows)], notes)
