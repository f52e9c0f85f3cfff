"""When a delivery that failed is tried again: by a schedule, spread by a tenth either way, which the delivery's own name decides.

    wait = schedule[n] · (0.9 + 0.2 · h)      h: hash of (decision, endpoint, attempt) in [0, 1)

What failed together does not come back together, and yet the same delivery waits the same time wherever it is computed.
"""

from collections.abc import Sequence
from hashlib import blake2b

RETRY_AFTER_MAX_S = 86_400
"""What a receiver may ask for at most; offers are over by then."""


def wait_s(schedule_s: Sequence[int], attempts: int, name: str, retry_after_s: int = 0) -> float | None:
    """Seconds from the `attempts`-th attempt (1: the first) to the next; None: it was the last.

    `retry_after_s` is what the receiver asked for: no sooner.

    >>> wait_s([100, 200], 1, "d1 crm") == wait_s([100, 200], 1, "d1 crm"), wait_s([100, 200], 3, "d1 crm")
    (True, None)
    >>> 90 <= wait_s([100, 200], 1, "d1 crm") < 110, wait_s([100], 1, "d1 crm", 500)
    (True, 500)
    """
    if attempts > len(schedule_s):
        return None
    share = int.from_bytes(blake2b(f"{name} {attempts}".encode(), digest_size=4).digest()) / 2**32
    return max(schedule_s[attempts - 1] * (0.9 + 0.2 * share), min(retry_after_s, RETRY_AFTER_MAX_S))
