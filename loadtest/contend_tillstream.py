"""Contender: tillstream's own worker, `tillstream worker --role points` in every respect, with a clock around `accrue`."""

import os
import signal

from loadtest.contender import Clock, Task, read_task
from loadtest.load import IDENTITY_KEY, PARTITIONS, PROGRAMS
from tillstream.config import Config
from tillstream.installation import SESSION_MS
from tillstream.streams.accrue import Accrue, Fetched
from tillstream.worker import run_worker

POLL_INTERVAL_MS = 20_000
"""As the embedded installation has it: joining the embedded broker's groups takes half of it."""


def add_clock(clock: Clock) -> None:
    """Puts a clock around `Accrue.post`, two calls a batch; after the last receipt the worker is told to stop, as an operator would."""
    post = Accrue.post

    async def timed(self: Accrue, fetched: Fetched) -> None:
        clock.start()
        await post(self, fetched)
        if clock.add(len(fetched.messages)):
            clock.report()
            os.kill(os.getpid(), signal.SIGTERM)

    setattr(Accrue, "post", timed)  # noqa: B010 (mypy lets nobody assign to a method)


def work(task: Task) -> None:
    """Works until everything is applied."""
    add_clock(Clock(task.receipts))
    config = Config(
        kafka=task.kafka,
        kafka_transactions=False,
        redis=task.redis,
        program=str(PROGRAMS[task.program]),
        identity_key=IDENTITY_KEY,
        partitions=PARTITIONS,
        session_ms=SESSION_MS,
        poll_interval_ms=POLL_INTERVAL_MS,
        log_level="error",
    )
    run_worker(config, "points")


if __name__ == "__main__":
    work(read_task())
