"""`replies`: the way back from a worker to the gateway whose till waits, by a sharded channel of Redis (as it is) or by a Kafka topic.

In: how many replies a second, for how long. Out: latencies from the moment at which a reply was due to the moment at which its request has
it, and the CPU time that it costs all four processes. Both ways run on the same servers, one after the other: embedded ones, or a broker
that is running already. The topic has one partition and one gateway, which flatters it: with several gateways, each would read the replies
to all of them.
"""

import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from statistics import median, quantiles
from typing import NamedTuple

import msgspec
import uvloop
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from msgspec import Struct

from loadtest.contender import ROOT, SHOWN_ERROR, VoidRunError
from loadtest.lane_place import cpu_of
from loadtest.replies_sender import Sent
from loadtest.replies_topic import TOPIC, TopicInbox
from loadtest.report import Report, TableOf
from tillstream.embedded.broker import Broker
from tillstream.embedded.process import Server
from tillstream.embedded.redis import Redis
from tillstream.gateway.inbox import Inbox
from tillstream.sinks.redis import connect

WAYS = ("channel", "topic")
ANSWER_S = 10.0

MISSED_S = 5.0
"""A reply that has not come so long after the last was due never will."""


class Addresses(NamedTuple):
    """Of the servers, as arguments name them."""

    kafka: str
    redis: str


class Measured(Struct, frozen=True):
    """One run of one way: latencies of the replies that came, milliseconds; how many did not; CPU seconds by process."""

    latencies_ms: list[float]
    missed: int
    cpu_s: dict[str, float]

    def percentile(self, per_cent: int) -> float:
        """By linear interpolation."""
        return quantiles(self.latencies_ms, n=100)[per_cent - 1]


def run(rate: int, seconds: float, runs: int, bootstrap: str, progress: Callable[[str], None]) -> Report:
    """All runs of both ways, by the broker at `bootstrap`, or, '', by an embedded one.

    Raises:
        VoidRunError: a process failed, or nothing came.
    """
    results: dict[str, list[Measured]] = {way: [] for way in WAYS}
    servers: dict[str, Server] = {"redis": Redis()} | ({} if bootstrap else {"broker": Broker()})
    with ExitStack() as stack:
        places = {name: stack.enter_context(server) for name, server in servers.items()}
        addresses = Addresses(bootstrap or places["broker"], places["redis"])
        create_topic(addresses.kafka)
        for number in range(runs):
            for way in WAYS:
                measured = uvloop.run(measure(way, addresses, servers, rate, round(rate * seconds)))
                results[way].append(measured)
                p50, p99 = measured.percentile(50), measured.percentile(99)
                progress(f"run {number + 1}/{runs}  {way:<8}  p50 {p50:6.2f} ms  p99 {p99:6.2f} ms  {measured.missed} missed")
    return report(rate, seconds, runs, results)


def create_topic(kafka: str) -> None:
    """The topic of the second way, unless it is there.

    Raises:
        VoidRunError: Kafka does not answer, or refuses.
    """
    admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
    try:
        admin.create_topics([NewTopic(TOPIC, 1, 1)], operation_timeout=ANSWER_S, request_timeout=ANSWER_S)[TOPIC].result()
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise VoidRunError(f"--kafka: the broker at {kafka} does not create the topic {TOPIC}: {error.args[0].str()}") from None


async def measure(way: str, addresses: Addresses, servers: Mapping[str, Server], rate: int, replies: int) -> Measured:
    """One run of one way: this process is the gateway, its child the worker."""
    client = connect(addresses.redis)
    inbox = Inbox(client) if way == "channel" else TopicInbox(client, addresses.kafka)
    listening = asyncio.create_task(inbox.run())
    try:
        await inbox.listening.wait()
        came_ns: dict[int, int] = {}
        waiting = [inbox.waiting[inbox.expect()] for _ in range(replies)]
        for number, one in enumerate(waiting):
            one.add_done_callback(lambda _, number=number: came_ns.setdefault(number, time.monotonic_ns()))
        before = cpu_s(servers)
        sent = await send(way, addresses, inbox.name, rate, replies)
        await asyncio.wait(waiting, timeout=MISSED_S)
        spent = {name: now - before[name] for name, now in cpu_s(servers).items()}
    finally:
        inbox.stop()
        await listening
        await client.aclose()
    if not came_ns:
        raise VoidRunError(f"no reply came by the {way}")
    latencies = [(came_ns[number] - due) / 1e6 for number, due in enumerate(sent.due_ns) if number in came_ns]
    return Measured(latencies, replies - len(came_ns), {"worker": sent.cpu_s, **spent})


async def send(way: str, addresses: Addresses, name: str, rate: int, replies: int) -> Sent:
    """Starts the worker's side and waits for it."""
    words = {"way": way, **addresses._asdict(), "name": name, "rate": rate, "replies": replies}
    arguments = [f"--{option}={value}" for option, value in words.items()]
    command = [sys.executable, "-m", "loadtest.replies_sender", *arguments]
    child = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=PIPE, stderr=PIPE)
    out, error = await child.communicate()
    if child.returncode != 0:
        raise VoidRunError(f"the sender ended with status {child.returncode}: {error.decode(errors='replace')[-SHOWN_ERROR:]}")
    return msgspec.json.decode(out, type=Sent)


def cpu_s(servers: Mapping[str, Server]) -> dict[str, float]:
    """CPU seconds so far of this process and of the servers that it started."""
    return {"gateway": time.process_time(), **{name: cpu_of(server) for name, server in servers.items()}}


def report(rate: int, seconds: float, runs: int, results: dict[str, list[Measured]]) -> Report:
    """Medians of all runs."""
    replies = round(rate * seconds)
    figures = {
        way: {
            "p50_ms": round(median(one.percentile(50) for one in each), 2),
            "p99_ms": round(median(one.percentile(99) for one in each), 2),
            "missed": sum(one.missed for one in each),
            "cpu_us_per_reply": {name: round(median(one.cpu_s[name] for one in each) / replies * 1e6) for name in each[0].cpu_s},
        }
        for way, each in results.items()
    }
    rows = [
        [way, f"{each['p50_ms']}", f"{each['p99_ms']}", f"{each['missed']}", *(f"{us}" for us in each["cpu_us_per_reply"].values())]
        for way, each in figures.items()
    ]
    columns = ["way", "p50 ms", "p99 ms", "missed", *(f"{name} µs" for name in results[WAYS[0]][0].cpu_s)]
    notes = [f"medians of {runs}; {rate} replies a second for {seconds:g} s; µs are CPU time per reply"]
    asked = {"rate": rate, "seconds": seconds, "runs": runs}
    return Report("replies", asked, figures, [], [TableOf("From the worker to the waiting request", columns, rows)], notes)
