"""Pages for `clicks`, in a process of their own: page views go to `clickstream` when the clock says so (open loop), and triggers come back.

In: a line of JSON per phase on standard input, then the moment at which it begins, then a word that all of it has been taken. Out: a line
when it is prepared, one with how many page views were sent, and one with what was measured.

A page view is of a whole millisecond, the one at which it is due, and says so; a trigger has the time of what led to it. So a latency runs
from the moment at which the page view was due until the trigger is read here: no coordinated omission.
"""

import argparse
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import NamedTuple

import msgspec
from confluent_kafka import OFFSET_END, Consumer, Producer, TopicPartition
from hdrh.histogram import HdrHistogram
from msgspec import Struct

from loadtest.clicks_load import PageView, page_views
from loadtest.lane_tills import DIGITS, US_MAX, microseconds
from tillstream.collector import spare_the_collector
from tillstream.schemas.offers import decode_trigger
from tillstream.sinks.writer import PRODUCER
from tillstream.streams.topics import CLICKSTREAM, TRIGGERS

__all__ = ["DIGITS", "US_MAX", "ClickPhase", "ClicksTold"]

SEED = 17
LINGER_MS = 5
"""As librdkafka has it, and less than a gateway gathers: what is due within it goes to the broker together. It is part of the latency."""

LISTENER = {"group.id": "loadtest-triggers", "enable.auto.commit": False, "fetch.wait.max.ms": 10}
"""As a gateway's stream of triggers reads them."""

POLL_S = 0.1
FLUSH_S = 30.0


class ClickPhase(Struct, frozen=True):
    """So many page views a second, at random moments (a Poisson process), for so many seconds."""

    per_s: float
    seconds: float


class ClicksTold(Struct, frozen=True):
    """What was measured in one phase.

    Attributes:
        latencies: an encoded histogram of microseconds, from the moment a page view was due to its trigger.
        late: the same of how much later than due a page view was handed over: this process's own part.
        pages: page views that were sent.
        triggers: how many of them led to a trigger.
        repeats: triggers that came more than once.
        cpu_s: this process's CPU time in the phase.
    """

    latencies: str
    late: str
    pages: int
    triggers: int
    repeats: int
    cpu_s: float


class Due(NamedTuple):
    """A page view, and when, milliseconds from the beginning."""

    at_ms: int
    page: PageView


class Listener(threading.Thread):
    """Reads triggers, and notes how long ago their page views were due."""

    def __init__(self, kafka: str, partitions: int) -> None:
        super().__init__(name="listener", daemon=True)
        self.consumer = Consumer({**LISTENER, "bootstrap.servers": kafka})
        self.consumer.assign([TopicPartition(TRIGGERS, number, OFFSET_END) for number in range(partitions)])
        self.turn = threading.Lock()
        self.seen: set[str] = set()
        self.restart()

    def restart(self) -> None:
        """Begins a phase."""
        with self.turn:
            self.latencies = HdrHistogram(1, US_MAX, DIGITS)
            self.repeats = 0

    def run(self) -> None:
        while True:
            message = self.consumer.poll(POLL_S)
            now = time.time()
            if message is None or message.error() is not None:
                continue
            trigger = decode_trigger(message.value() or b"")
            with self.turn:
                if trigger.id in self.seen:
                    self.repeats += 1
                else:
                    self.seen.add(trigger.id)
                    self.latencies.record_value(microseconds(now - trigger.time.timestamp()))


class Pages:
    """Sends page views by one producer."""

    def __init__(self, kafka: str) -> None:
        # Page views come one by one: what waits for more of them is not worth compressing.
        self.producer = Producer({**PRODUCER, "bootstrap.servers": kafka, "linger.ms": LINGER_MS, "compression.type": "none"})
        self.views = page_views(SEED)
        self.random = Random(SEED)

    def prepare(self, phase: ClickPhase) -> list[Due]:
        """All page views of a phase, in order."""
        moments = list(self._moments(phase))
        return [Due(at_ms, page) for at_ms, page in zip(moments, islice(self.views, len(moments)), strict=True)]

    def send(self, due: list[Due], begins_ms: int) -> HdrHistogram:
        """Sends them when they are due, and returns when the broker has all of them; how much later than due."""
        late = HdrHistogram(1, US_MAX, DIGITS)
        for at_ms, page in due:
            moment_ms = begins_ms + at_ms
            if (wait := moment_ms / 1000 - time.time()) > 0:
                time.sleep(wait)
            self.producer.produce(CLICKSTREAM, page.at(moment_ms), page.visitor.encode())
            self.producer.poll(0)
            late.record_value(microseconds(time.time() - moment_ms / 1000))
        if self.producer.flush(FLUSH_S):
            raise RuntimeError("Kafka did not take the page views")
        return late

    def _moments(self, phase: ClickPhase) -> Iterator[int]:
        at = self.random.expovariate(phase.per_s)
        while at < phase.seconds:
            yield int(at * 1000)
            at += self.random.expovariate(phase.per_s)


def serve(kafka: str, partitions: int) -> None:
    """Phase after phase, until standard input ends."""
    pages, listener = Pages(kafka), Listener(kafka, partitions)
    listener.start()
    while line := sys.stdin.readline():
        due = pages.prepare(msgspec.json.decode(line, type=ClickPhase))
        spare_the_collector()
        listener.restart()
        print("ready", flush=True)
        begins_ms = round(float(sys.stdin.readline()) * 1000)
        cpu = time.process_time()
        late = pages.send(due, begins_ms)
        cpu = time.process_time() - cpu
        print(len(due), flush=True)
        sys.stdin.readline()
        with listener.turn:
            latencies = listener.latencies
        told = ClicksTold(
            latencies.encode().decode(), late.encode().decode(), len(due), latencies.total_count, listener.repeats, cpu
        )
        print(msgspec.json.encode(told).decode(), flush=True)


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(description="Pages of `python -m loadtest clicks`; they are started by that command.")
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    arguments = parser.parse_args()
    serve(arguments.kafka, arguments.partitions)


if __name__ == "__main__":
    main()
