"""Rounds without end: a folder that is looked at by its schedule, through Kafka being away, until Ctrl-C or SIGTERM."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from tillstream.config import Config
from tillstream.errors import UsageError
from tillstream.ingesting.run import Result, Round
from tillstream.ingesting.schedule import waiting_s
from tillstream.sending import Sender, SendFailed
from tillstream.servers import check_kafka

RETRY_S = (1.0, 60.0)
"""Between two tries while Kafka is away: doubled from the first to the second."""


class NotReady(UsageError):
    """Kafka is away, or not as this installation needs it; the message says why, and time may mend it."""


def ingest_once(config: Config, target: Path, work: Round, told: Callable[[Result], None], patient: Callable[[float], None] | None) -> None:
    """One round.

    Raises:
        UsageError: Kafka does not answer, a file cannot be read.
        SendFailed: Kafka went away meanwhile.
    """
    work.run(target, connected(config), told, patient)


def watch(
    config: Config, target: Path, work: Round, told: Callable[[Result], None], say: Callable[[str], None], stop: threading.Event
) -> None:
    """Rounds until `stop` is set. `say` hears once that Kafka is away, and once that it is back.

    Raises:
        UsageError: the target is gone.
    """
    zone, retry_s, away = ZoneInfo(work.mapping.source.time_zone), RETRY_S[0], False
    sender: Sender | None = None
    while not stop.is_set():
        try:
            sender = sender or connected(config)
            if away:
                say("Kafka answers again")
            retry_s, away = RETRY_S[0], False
            work.run(target, sender, told)
        except (NotReady, SendFailed) as error:
            sender = None  # What it has not sent is sent anew; what it still sends counts once all the same.
            if not away:
                say(f"{error}; waiting")
            away = True
            stop.wait(retry_s)
            retry_s = min(2 * retry_s, RETRY_S[1])
        else:
            stop.wait(waiting_s(work.mapping.schedule, zone, datetime.now(UTC)))


def connected(config: Config) -> Sender:
    """What sends to Kafka.

    Raises:
        NotReady: it does not answer, or its topics are not there yet.
    """
    try:
        check_kafka(config)
    except UsageError as error:
        raise NotReady(str(error)) from None
    return Sender(config)


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
