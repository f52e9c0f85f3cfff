"""How some goods are bought again and again: how much, and how long until the next time.

An interval is between two shoppings in their order of time. The expected one follows the latest by a share, as exponential smoothing does:

    gap' = gap + GAP_SHARE · (interval - gap)        off' = off + GAP_SHARE · (|interval - gap| - off)
"""

from collections.abc import Sequence

from msgspec import Struct

from tillstream.models.features.fading import DAY_MS, Fading, added, faded

HALF_DAYS = 90
HALF = (HALF_DAYS * DAY_MS,) * 3
"""Of receipts, spend and discount: a season."""

SAME_SHOPPING_MS = DAY_MS // 2
"""Two receipts within half a day are one shopping: the second is no repurchase."""

GAP_SHARE = 0.3
"""After six intervals the first has an eighth of the weight."""


class Habit(Struct, frozen=True, array_like=True, gc=False):
    """What is known of some goods, or of all; `gap_days` is expected, `off_days` by how much it was missed, after `gaps` intervals."""

    last_ms: int
    fading: Fading
    category: str = ""
    gaps: int = 0
    gap_days: float = 0.0
    off_days: float = 0.0

    def at(self, at_ms: int) -> tuple[float, ...]:
        """Receipts, spend and discount at `at_ms`."""
        return faded(self.fading, HALF, at_ms)

    def days_since(self, at_ms: int) -> float:
        """Days since the latest purchase."""
        return max(0, at_ms - self.last_ms) / DAY_MS


def repeated(habit: Habit | None, at_ms: int, weights: Sequence[float], category: str = "") -> Habit:
    """The habit with one more purchase; one that comes late, or within the same shopping, makes no interval."""
    if habit is None:
        return Habit(at_ms, added(None, HALF, at_ms, weights), category)
    fading = added(habit.fading, HALF, at_ms, weights)
    category = category or habit.category
    interval_ms = at_ms - habit.last_ms
    if interval_ms < SAME_SHOPPING_MS:
        return Habit(max(at_ms, habit.last_ms), fading, category, habit.gaps, habit.gap_days, habit.off_days)
    days = interval_ms / DAY_MS
    if not habit.gaps:
        return Habit(at_ms, fading, category, 1, days, 0.0)
    off_days = habit.off_days + GAP_SHARE * (abs(days - habit.gap_days) - habit.off_days)
    return Habit(at_ms, fading, category, habit.gaps + 1, habit.gap_days + GAP_SHARE * (days - habit.gap_days), off_days)
