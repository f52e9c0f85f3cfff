"""The worker's side of `replies`, in a process of its own: one reply at a time, when the clock says so.

In: arguments. Out: one line of JSON: when each was due, on the clock that all processes of this machine share, and CPU seconds.
"""

import argparse
import asyncio
import sys
import time

import msgspec
import uvloop
from confluent_kafka import Producer
from msgspec import Raw, Struct

from loadtest.replies_topic import PRODUCER, TOPIC
from tillstream.schemas.replies import Reply, encode_replies
from tillstream.sinks.redis import connect
from tillstream.sinks.replies import Replies

RECORD = Raw(msgspec.json.encode({"posting_id": "p" * 40, "entries": [{"line_no": n, "rule_id": "base", "points": 12} for n in range(12)]}))
"""About what a receipt of twelve lines leads to."""

FLUSH_S = 10.0


class Sent(Struct, frozen=True):
    """When each reply was due, nanoseconds of the monotonic clock, and the CPU seconds of this process meanwhile."""

    due_ns: list[int]
    cpu_s: float


def reply(name: str, number: int) -> Reply:
    return Reply(f"{name}.{number}", "accepted", f"key-{number}", RECORD)


async def send_all(arguments: argparse.Namespace) -> Sent:
    """Sends them at an even pace."""
    async with connect(arguments.redis) as client:
        channel, topic = Replies(client), Producer({"bootstrap.servers": arguments.kafka, **PRODUCER})
        due_ns: list[int] = []
        began, cpu = time.monotonic_ns() + 100_000_000, time.process_time()
        for number in range(1, arguments.replies + 1):
            due_ns.append(began + number * 1_000_000_000 // arguments.rate)
            await asyncio.sleep((due_ns[-1] - time.monotonic_ns()) / 1e9)
            one = [reply(arguments.name, number)]
            if arguments.way == "channel":
                await channel.send(one)
            else:
                topic.produce(TOPIC, encode_replies(one), arguments.name)
                topic.poll(0)
        await asyncio.to_thread(topic.flush, FLUSH_S)
        return Sent(due_ns, time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description="One side of `python -m loadtest replies`; it is started by that command.")
    for name in ("way", "kafka", "redis", "name"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("replies", "rate"):
        parser.add_argument(f"--{name}", type=int, required=True)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(send_all(parser.parse_args()))) + b"\n")


if __name__ == "__main__":
    main()
