"""Contender: a stock Faust agent on the aiokafka driver, one event at a time, as Faust's documentation advises.

Raw bytes and orjson instead of the json codec; redis.asyncio with hiredis; the Cython stream; concurrency, so that one event waits for
Redis while another is judged; a producer that lingers; no web server, no leader topic, no tables.
"""

import asyncio
import logging
import tempfile
from typing import Any

import faust
import redis.asyncio

from loadtest.contender import Clock, Task, read_task, run_app
from loadtest.per_event import PerEvent, check, fill
from tillstream.collector import spare_the_collector
from tillstream.installation import SESSION_MS
from tillstream.streams.topics import LEDGER, TRANSACTIONS

CONCURRENCY = 8
"""Events in progress at once: 1 was the slowest in each of three noisy trials; 8 and 32 could not be told apart."""

LINGER_S = 0.005


def create_app(task: Task, folder: str) -> faust.App:
    """The peer's app, on the embedded broker's short session."""
    return faust.App(
        "loadtest-faust",
        broker=f"aiokafka://{task.kafka}",
        datadir=folder,
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        broker_session_timeout=SESSION_MS / 1000,
        broker_heartbeat_interval=SESSION_MS / 10_000,
        broker_max_poll_interval=20.0,
        producer_linger=LINGER_S,
        producer_max_batch_size=256 * 1024,
        producer_threaded=False,
        consumer_max_fetch_size=1024 * 1024,
        stream_wait_empty=False,
    )


def add_agent(app: faust.App, task: Task, clock: Clock, done: asyncio.Event) -> None:
    """The agent: decode, judge, one Redis pipeline, one ledger record."""
    raw: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    transactions, ledger = app.topic(TRANSACTIONS, **raw), app.topic(LEDGER, **raw)
    client = redis.asyncio.from_url(task.redis)
    judge = PerEvent().judge

    @app.agent(transactions, name="accrue", concurrency=CONCURRENCY)
    async def accrue(stream: Any) -> None:
        async for event in stream.events():
            clock.start()
            judged = judge(event.value, event.message.offset)
            async with client.pipeline(transaction=False) as pipeline:
                fill(pipeline, judged)
                check(await pipeline.execute())
            await ledger.send(key=judged.account.encode(), value=judged.record)
            if clock.add(1):
                done.set()


async def work(task: Task) -> None:
    """Runs the app until everything is applied."""
    clock, done = Clock(task.receipts), asyncio.Event()
    with tempfile.TemporaryDirectory(prefix="loadtest-") as folder:
        app = create_app(task, folder)
        add_agent(app, task, clock, done)
        spare_the_collector()
        await run_app(app, clock, done)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(work(read_task()))
