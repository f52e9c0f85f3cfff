"""Where `lane` runs: all servers on this machine, fresh, with members enrolled, a gateway that wants a key, and the processes of tills.

In: a phase. Out: what its requests took, merged over the processes, and what each server used of the processor meanwhile.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import redis
from hdrh.histogram import HdrHistogram

from loadtest.contender import ROOT, VoidRunError
from loadtest.lane_tills import DIGITS, FIRST_NAME, MEMBERS, US_MAX, Phase, Told
from loadtest.load import IDENTITY_KEY, PROGRAM
from tillstream.config import Config
from tillstream.embedded.broker import Broker
from tillstream.embedded.process import Server
from tillstream.embedded.redis import Redis
from tillstream.installation import SESSION_MS, GatewayProcess, WorkerProcess
from tillstream.keys import create_key
from tillstream.sending import Sender
from tillstream.sources.generated import card_number
from tillstream.streams.topics import ensure_topics

PROCESSES = 2
"""Of tills: near saturation one would be as busy as the gateway."""

AHEAD_S = 0.3
"""From the word to the beginning of a phase: all processes have heard it by then."""

ENROLLED_S = 60.0
LOOK_EVERY_S = 0.1
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Measured(NamedTuple):
    """One phase: histograms of microseconds by kind, and of how late requests were sent; failures; CPU seconds by part; its length."""

    latencies: dict[str, HdrHistogram]
    late: HdrHistogram
    failed: Counter[str]
    why: str
    cpu_s: dict[str, float]
    seconds: float

    def ms(self, kind: str, percentile: float) -> float:
        """A percentile of a kind's latencies, milliseconds."""
        return round(self.latencies[kind].get_value_at_percentile(percentile) / 1000, 2)


class Place:
    """The servers, by name, and the tills."""

    def __init__(self, servers: dict[str, list[Server]], tills: list["subprocess.Popen[str]"]) -> None:
        self.servers = servers
        self.tills = tills

    def run(self, phase: Phase) -> Measured:
        """One phase, its rates shared among the processes.

        Raises:
            VoidRunError: a process of tills, or a server, has ended.
        """
        shared = Phase({kind: rate / len(self.tills) for kind, rate in phase.rates.items()}, phase.seconds)
        for process in self.tills:
            say(process, msgspec.json.encode(shared).decode())
        for process in self.tills:
            hear(process)
        begins = time.monotonic() + AHEAD_S
        for process in self.tills:
            say(process, str(begins))
        time.sleep(max(0.0, begins - time.monotonic()))
        before, started = self.cpu_s(), time.monotonic()
        told = [msgspec.json.decode(hear(process), type=Told) for process in self.tills]
        seconds, after = time.monotonic() - started, self.cpu_s()
        cpu = {name: after[name] - before[name] for name in before}
        return merged(told, {**cpu, "tills": sum(each.cpu_s for each in told)}, seconds)

    def cpu_s(self) -> dict[str, float]:
        """What each server has used so far, all its threads."""
        return {name: sum(map(cpu_of, servers)) for name, servers in self.servers.items()}


def cpu_of(server: Server) -> float:
    """CPU seconds of a process.

    Raises:
        VoidRunError: it has ended.
    """
    try:
        fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        raise VoidRunError(f"the {server.name} ended: {' | '.join(server.log_tail())}") from None
    return (int(fields[11]) + int(fields[12])) * TICK_S


def merged(told: list[Told], cpu_s: dict[str, float], seconds: float) -> Measured:
    """What all processes of tills measured, as one."""
    latencies: dict[str, HdrHistogram] = {}
    late, failed = HdrHistogram(1, US_MAX, DIGITS), Counter[str]()
    for each in told:
        for kind, encoded in each.latencies.items():
            latencies.setdefault(kind, HdrHistogram(1, US_MAX, DIGITS)).decode_and_add(encoded)
        late.decode_and_add(each.late)
        failed.update(each.failed)
    return Measured(latencies, late, failed, next((each.why for each in told if each.why), ""), cpu_s, seconds)


def say(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def hear(process: "subprocess.Popen[str]") -> str:
    """A line of a process of tills."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise VoidRunError(f"tills ended with status {process.wait()}")
    return line


@contextmanager
def place(partitions: int, gateways: int) -> Iterator[Place]:
    """All of it, from nothing; ended by pid. The processes of tills are shared among the gateways.

    Raises:
        VoidRunError: members were not enrolled in time.
    """
    with ExitStack() as stack:
        broker, cache = Broker(), Redis()
        kafka, address = stack.enter_context(broker), stack.enter_context(cache)
        config = Config(
            kafka=kafka, kafka_transactions=False, redis=address, program=str(PROGRAM), identity_key=IDENTITY_KEY, partitions=partitions,
            gateway_rates="read=50/200", session_ms=SESSION_MS, poll_interval_ms=20_000, log_level="error",
        )  # fmt: skip
        ensure_topics(config.kafka, config.partitions, 1)
        key, _ = create_key(config, "till", ["PL-*"], "lane", None, signed=False)
        worker, doors = WorkerProcess(config, "points"), [GatewayProcess(config) for _ in range(gateways)]
        stack.enter_context(worker)
        enrol(config)
        urls = [stack.enter_context(gateway) for gateway in doors]
        tills = [stack.enter_context(tills_of(urls[number % gateways], key, number)) for number in range(PROCESSES)]
        yield Place({"gateway": [*doors], "worker": [worker], "redis": [cache], "broker": [broker]}, tills)


@contextmanager
def tills_of(url: str, key: str, seed: int) -> Iterator["subprocess.Popen[str]"]:
    """One process of tills."""
    command = [sys.executable, "-m", "loadtest.lane_tills", "--url", url, "--key", key, "--seed", str(seed)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def enrol(config: Config) -> None:
    """Enrols all members, each with a card, and waits until they are known."""
    Sender(config).send(map(enrolment, range(MEMBERS)))
    deadline = time.monotonic() + ENROLLED_S
    with redis.Redis.from_url(config.redis) as client:
        while sum(client.hlen(key) for key in client.scan_iter(match="{i*}:identities")) < MEMBERS:  # type: ignore[misc]
            if time.monotonic() > deadline:
                raise VoidRunError(f"members were not enrolled within {ENROLLED_S:.0f} s")
            time.sleep(LOOK_EVERY_S)


def enrolment(number: int) -> dict[str, Any]:
    """One member, with a first name that cashiers greet by."""
    identities = [{"scheme": "card", "value": card_number(number)}]
    data = {"member_id": f"m{number}", "identities": identities, "attributes": {"first_name": FIRST_NAME}}
    envelope = {"specversion": "1.0", "id": f"enrol-{number}", "source": "crm", "time": "2026-01-01T00:00:00Z"}
    return {**envelope, "type": "member.enrolled", "data": data}
