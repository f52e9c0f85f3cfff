"""How long a till waits, and when it asks again. All times are seconds."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

CONNECT_S = 0.5
"""A gateway stands in the same town: who has not taken a connection by then is away."""

ANSWER_S = 1.2
"""The gateway answers, or says that it cannot, within a second, beside what it is asked to wait for a worker."""

PATIENCE_S = 2.0
"""What a cashier takes for an answer, all attempts together."""

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 30.0
"""A queue that waits for a line asks twice a minute; tills of a chain that come back together are spread over as long."""

RETRY_AFTER_MAX_S = 300.0
"""What a gateway may ask for; a clock that is wrong must not keep receipts for a day."""

DOUBLED_MAX = 30
"""Beyond so many failures the pause has long reached its maximum."""


def pause_s(failures: int, retry_after_s: float, chance: float) -> float:
    """The pause after so many failures in a row, 1 or more: full jitter, from 0 to FIRST·2^(failures-1) and at most MAX, behind what the
    gateway asked for; `chance` is from 0 to 1. ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015.)

    >>> pause_s(1, 0.0, 0.5), pause_s(3, 0.0, 1.0), pause_s(99, 0.0, 1.0), pause_s(1, 2.0, 1.0)
    (0.025, 0.2, 30.0, 2.05)
    """
    return retry_after_s + chance * min(BACKOFF_FIRST_S * 2.0 ** min(failures - 1, DOUBLED_MAX), BACKOFF_MAX_S)


def retry_after_s(header: str, now: datetime) -> float:
    """What `Retry-After` asks for: seconds, or a date (RFC 9110, 10.2.3); 0 where it says nothing that can be read.

    >>> now = datetime(2026, 3, 7, 17, 42, 8, tzinfo=UTC)
    >>> [retry_after_s(text, now) for text in ("3", "Sat, 07 Mar 2026 17:42:10 GMT", "soon", "9999")]
    [3.0, 2.0, 0.0, 300.0]
    """
    if header.isascii() and header.isdigit():
        asked = float(header)
    else:
        try:
            date = parsedate_to_datetime(header)
        except ValueError:
            return 0.0
        asked = (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
    return min(max(asked, 0.0), RETRY_AFTER_MAX_S)
