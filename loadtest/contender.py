"""What every contender has in common: its process, its arguments, its clock, its result.

In: the command line `--kafka --redis --receipts --program`. Out: one line of JSON on standard output, which `contend` reads. The clock runs
from the first record that reaches the contender's code to the last one applied: starting up and joining the group do not count.
"""

import argparse
import asyncio
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

KIB_PER_MIB = 1024
STATUS = Path("/proc/self/status")
SCHEDULED = Path("/proc/self/schedstat")

CONTENDER_S_MAX = 600.0
"""Longer than the slowest peer needs for its share, joining included; then it is stopped by its own pid."""

SHOWN_ERROR = 2_000
"""Characters of a failed contender's errors that are shown: a traceback's end."""

ROOT = Path(__file__).resolve().parent.parent


class VoidRunError(Exception):
    """A run that proves nothing: the contender failed, or did other work than asked."""


class Task(NamedTuple):
    """Where to work, when to stop, and by which of the load's programs: only tillstream's worker has the choice."""

    kafka: str
    redis: str
    receipts: int
    program: str


class Result(Struct):
    """What one contender did, while its clock ran: `cpu_s` is the process's own, all threads; `starved_s` is how long its main thread was
    ready to run and had no CPU, because others used the machine; `rss_mib` is the peak.
    """

    receipts: int
    seconds: float
    cpu_s: float
    starved_s: float
    rss_mib: float

    @property
    def rate(self) -> float:
        """Receipts a second."""
        return self.receipts / self.seconds


class Clock:
    """Runs from the first record to the last; `add` says when that was reached."""

    def __init__(self, receipts: int) -> None:
        self.receipts = receipts
        self.done = 0
        self.began: tuple[float, float, float] | None = None
        self.result: Result | None = None

    def start(self) -> None:
        """A record has arrived; only the first one counts."""
        if self.began is None:
            self.began = marks()

    def add(self, receipts: int) -> bool:
        """So many more are applied; True once, when all are."""
        self.done += receipts
        if self.done < self.receipts or self.result is not None or self.began is None:
            return False
        seconds, cpu, starved = (now - then for now, then in zip(marks(), self.began, strict=True))
        self.result = Result(self.done, seconds, cpu, starved, rss_peak_mib())
        return True

    def report(self) -> None:
        """Prints the result."""
        print(msgspec.json.encode(self.result).decode(), flush=True)


def marks() -> tuple[float, float, float]:
    """Now: wall clock, CPU time of this process, and how long its main thread has been starved; seconds."""
    starved_ns = int(SCHEDULED.read_text().split()[1]) if SCHEDULED.exists() else 0
    return time.perf_counter(), time.process_time(), starved_ns / 1e9


def rss_peak_mib() -> float:
    """This process's own peak. `getrusage` is the second choice: a child's figure there begins with what its parent had."""
    if STATUS.exists():
        peaks = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(peaks[0].split()[1]) / KIB_PER_MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / KIB_PER_MIB / (KIB_PER_MIB if sys.platform == "darwin" else 1)


def read_task() -> Task:
    """The task from this process's command line."""
    parser = argparse.ArgumentParser(description="One contender of `python -m loadtest pipeline`; it is started by that command.")
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--redis", required=True)
    parser.add_argument("--receipts", type=int, required=True)
    parser.add_argument("--program", default="ten")
    arguments = parser.parse_args()
    return Task(arguments.kafka, arguments.redis, arguments.receipts, arguments.program)


async def run_app(app: Any, clock: Clock, done: asyncio.Event) -> None:
    """Runs a Faust app until its agent is `done`, and reports."""
    try:
        await app.start()
        await done.wait()
        clock.report()
    finally:
        await app.stop()


def contend(module: str, *arguments: str) -> Result:
    """Runs a contender's process from start to end; its result is the last line of JSON that it prints.

    Raises:
        VoidRunError: it failed, or took more than `CONTENDER_S_MAX`.
    """
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=CONTENDER_S_MAX, check=False)
    except subprocess.TimeoutExpired:
        raise VoidRunError(f"{module} was not through after {CONTENDER_S_MAX:.0f} s") from None
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        raise VoidRunError(f"{module} ended with status {done.returncode}: {done.stderr[-SHOWN_ERROR:]}")
    return msgspec.json.decode(lines[-1], type=Result)
