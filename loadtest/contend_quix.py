"""Contender: Quix Streams, one function over a StreamingDataFrame, as its documentation advises.

Raw bytes and orjson instead of the default JSON deserializer; hiredis; commits by time; a producer that lingers; no state store and so no
changelog. Quix hands its functions one record at a time: only its sinks work in batches, and those write at commits, not per receipt.
"""

import tempfile

import redis
from quixstreams import Application, message_context

from loadtest.contender import Clock, Task, read_task
from loadtest.per_event import PerEvent, check, fill
from tillstream.collector import spare_the_collector
from tillstream.installation import SESSION_MS
from tillstream.sinks.writer import PRODUCER
from tillstream.streams.topics import LEDGER, TRANSACTIONS

COMMIT_S = 5.0
"""Quix' own default: each commit flushes the producer."""


def work(task: Task) -> None:
    """Runs the dataframe until everything is applied."""
    clock = Clock(task.receipts)
    judge, client = PerEvent().judge, redis.Redis.from_url(task.redis)

    def accrue(value: bytes) -> bytes:
        clock.start()
        judged = judge(value, message_context().offset)
        pipeline = client.pipeline(transaction=False)
        fill(pipeline, judged)
        check(pipeline.execute())
        return judged.record

    with tempfile.TemporaryDirectory(prefix="loadtest-") as folder:
        app = Application(
            broker_address=task.kafka,
            consumer_group="loadtest-quix",
            auto_offset_reset="earliest",
            commit_interval=COMMIT_S,
            consumer_extra_config={"session.timeout.ms": SESSION_MS, "max.poll.interval.ms": 20_000, "fetch.wait.max.ms": 10},
            producer_extra_config={"linger.ms": 5, "partitioner": PRODUCER["partitioner"]},
            state_dir=folder,
            use_changelog_topics=False,
            auto_create_topics=False,
            on_message_processed=lambda _topic, _partition, _offset: finish(clock, app),
            loglevel="ERROR",
        )
        source = app.topic(TRANSACTIONS, value_deserializer="bytes", key_deserializer="bytes")
        ledger = app.topic(LEDGER, value_serializer="bytes", key_serializer="bytes")
        app.dataframe(source).apply(accrue).to_topic(ledger)
        spare_the_collector()
        app.run()
    clock.report()


def finish(clock: Clock, app: Application) -> None:
    """Counts a record when Quix is through with it; stops the app after the last."""
    if clock.add(1):
        app.stop()


if __name__ == "__main__":
    work(read_task())
