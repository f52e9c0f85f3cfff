"""Rounds without end: a folder that is looked at by its schedule, through Kafka being away, until Ctrl-C or SIGTERM."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from tillstream.config import Config
from tillstream.errors import UnreachableError
from tillstream.ingesting.run import Result, Round
from tillstream.ingesting.schedule import waiting_s
from tillstream.sending import Sender, SendFailed
from tillstream.servers import check_kafka

RETRY_S = (1.0, 60.0)
"""Between two tries while Kafka is away: doubled from the first to the second."""


def ingest_once(config: Config, target: Path, work: Round, told: Callable[[Result], None], patient: Callable[[float], None] | None) -> None:
    """One round.

    Raises:
        UsageError: Kafka does not answer, a file cannot be read.
        SendFailed: Kafka went away meanwhile.
    """
    check_kafka(config)
    work.run(target, Sender(config.kafka), told, patient)


def watch(
    config: Config, target: Path, work: Round, told: Callable[[Result], None], say: Callable[[str], None], stop: threading.Event
) -> None:
    """Rounds until `stop` is set. `say` hears once that Kafka is away, and once that it is back.

    Raises:
        UsageError: something that waiting does not mend.
    """
    zone, retry_s, away = ZoneInfo(work.mapping.source.time_zone), RETRY_S[0], False
    while not stop.is_set():
        try:
            ingest_once(config, target, work, told, None)
        except (UnreachableError, SendFailed) as error:
            if not away:
                say(f"{error}; waiting")
            away = True
            stop.wait(retry_s)
            retry_s = min(2 * retry_s, RETRY_S[1])
            continue
        if away:
            say("Kafka answers again")
        retry_s, away = RETRY_S[0], False
        stop.wait(waiting_s(work.mapping.schedule, zone, datetime.now(UTC)))


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
