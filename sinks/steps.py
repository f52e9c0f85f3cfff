"""The steps of a librdkafka transaction: taken again while they may be, and watched, since one may never return.

`send_offsets_to_transaction` can wait for ever when the group's coordinator goes, whatever its timeout (librdkafka issues 5456 and 5511,
open in November 2026). A thread inside it cannot be ended, so the process is: as after kill -9 the broker aborts the open transaction, and
whoever starts next judges its batches again.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaException

STEP_S = 30.0
"""Longer than a broker's election."""

HUNG_S = 10.0
"""Beyond `STEP_S` no step returns any more."""

AGAIN_S = 0.1
"""Between two attempts at a step."""

LOOK_S = 1.0

EXIT_HUNG = 70
"""EX_SOFTWARE of sysexits.h."""

log = logging.getLogger("tillstream.writer")


def leave() -> None:
    """Ends this process at once."""
    log.critical("kafka_client_hung seconds=%d: a transaction's step never returned; this process ends, start it again", STEP_S + HUNG_S)
    logging.shutdown()
    os._exit(EXIT_HUNG)


class Steps:
    """Those of one producer, in its thread; `watch` runs in the event loop meanwhile, and calls `hung` where one never returns."""

    def __init__(self, hung: Callable[[], None] = leave) -> None:
        self.hung = hung
        self.until = float("inf")

    def take(self, step: Callable[..., None], *arguments: Any) -> None:
        """Takes a step, again and again within `STEP_S` while librdkafka says that it may: its coordinator has moved, say.

        Raises:
            KafkaException: it may not, or there is no time left.
        """
        self.until = time.monotonic() + STEP_S
        try:
            while True:
                try:
                    return step(*arguments, max(0.0, self.until - time.monotonic()))
                except KafkaException as failure:
                    if not failure.args[0].retriable() or time.monotonic() + AGAIN_S > self.until:
                        raise
                    time.sleep(AGAIN_S)
        finally:
            self.until = float("inf")

    async def watch(self) -> None:
        """Looks until it is cancelled, or has found a step that hangs."""
        while True:
            await asyncio.sleep(LOOK_S)
            if time.monotonic() > self.until + HUNG_S:
                return self.hung()
