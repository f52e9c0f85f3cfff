"""What both engine and oracle tell of an outcome, in a form that can be compared."""

from collections import Counter
from typing import Any

from tests.oracle import Outcome


def told(there: Outcome) -> dict[str, Any]:
    """What no receipt earned comes under its account and rule alone."""
    net: Counter[tuple[Any, ...]] = Counter()
    for (account, source, origin, line_no, rule), points in there.net.items():
        net[(account, source, origin, line_no, rule) if line_no is not None else (account, "", "", None, rule)] += points
    return {
        "accounts": there.accounts,
        "net": {key: points for key, points in net.items() if points},
        "tiers": {account: tier for account, tier in there.tiers.items() if tier},
        "codes": Counter(there.rejected.values()),
        "duplicates": there.duplicates,
        "waiting": there.waiting,
    }
