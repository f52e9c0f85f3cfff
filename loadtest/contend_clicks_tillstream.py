"""Contender: tillstream's own worker, `tillstream worker --role offers` in every respect, with a clock around `observe`."""

import os
import signal
from collections.abc import Sequence

from confluent_kafka import Message

from loadtest.clicks_place import config_of
from loadtest.contender import Clock, Task, read_task
from loadtest.load import PARTITIONS
from tillstream.streams.observe import Observe
from tillstream.worker import run_worker


def add_clock(clock: Clock) -> None:
    """Puts a clock around `Observe.observe`, two calls a batch; after the last page view the worker is told to stop."""
    observe = Observe.observe

    async def timed(self: Observe, partition: int, messages: Sequence[Message]) -> None:
        clock.start()
        await observe(self, partition, messages)
        if clock.add(len(messages)):
            clock.report()
            os.kill(os.getpid(), signal.SIGTERM)

    setattr(Observe, "observe", timed)  # noqa: B010 (mypy lets nobody assign to a method)


def work(task: Task) -> None:
    """Works until everything is taken."""
    add_clock(Clock(task.receipts))
    run_worker(config_of(task.kafka, task.redis, PARTITIONS), "offers")


if __name__ == "__main__":
    work(read_task())
