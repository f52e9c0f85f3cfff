"""Contender of the transport test: an agent that counts its records, behind the Faust driver named by `--driver`.

librdkafka        tillstream's transport: an event is a batch
aiokafkabatches   Faust's aiokafka driver, handing over whole fetches: an event is a list
aiokafka          stock Faust: an event is a record
"""

import argparse
import asyncio
import logging
import tempfile
from collections.abc import Callable
from typing import Any

import faust

from loadtest import aiokafka_batches
from loadtest.contender import Clock, Task, run_app
from tillstream.installation import SESSION_MS
from tillstream.streams.topics import TRANSACTIONS

DRIVERS: dict[str, Callable[[Any], int]] = {
    "librdkafka": lambda event: len(event.messages),
    "aiokafkabatches": len,
    "aiokafka": lambda event: 1,
}
"""How many records an event of each driver holds."""


def create_app(task: Task, driver: str, folder: str) -> faust.App:
    """One app, whatever the driver."""
    return faust.App(
        "loadtest-nothing",
        broker=f"{driver}://{task.kafka}",
        datadir=folder,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        broker_session_timeout=SESSION_MS / 1000,
        broker_heartbeat_interval=SESSION_MS / 10_000,
        broker_max_poll_interval=20.0,
        stream_wait_empty=False,
    )


async def work(task: Task, driver: str) -> None:
    """Counts until everything was there."""
    clock, done, size = Clock(task.receipts), asyncio.Event(), DRIVERS[driver]
    aiokafka_batches.register()
    with tempfile.TemporaryDirectory(prefix="loadtest-") as folder:
        app = create_app(task, driver, folder)
        topic = app.topic(TRANSACTIONS, key_serializer="raw", value_serializer="raw")

        @app.agent(topic, name="nothing")
        async def nothing(stream: Any) -> None:
            async for event in stream:
                clock.start()
                if clock.add(size(event)):
                    done.set()

        await run_app(app, clock, done)


def main() -> None:
    """The task from this process's command line."""
    parser = argparse.ArgumentParser(description="One contender of `python -m loadtest transport`; it is started by that command.")
    parser.add_argument("--driver", choices=sorted(DRIVERS), required=True)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--receipts", type=int, required=True)
    arguments = parser.parse_args()
    asyncio.run(work(Task(arguments.kafka, "", arguments.receipts, ""), arguments.driver))


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    main()
