"""Lift in the top tenth: how many times as many outcomes there are among the highest scores as among all."""

from collections.abc import Sequence

import numpy as np

TOP = 0.1
RESAMPLES = 1_000


def top_of(scores: Sequence[float]) -> int:
    """How many are the top tenth, at least one."""
    return max(1, round(TOP * len(scores)))


def in_top(scores: Sequence[float], outcomes: Sequence[bool]) -> float:
    """Outcomes in the top tenth; of equal scores at its border the average counts.

    >>> in_top([0.9, *[0.5] * 19], [True, *[False] * 18, True])
    1.0526315789473684
    """
    values, came = np.asarray(scores, dtype=np.float64), np.asarray(outcomes, dtype=bool)
    size = top_of(scores)
    border = np.partition(values, -size)[-size]
    above, level = values > border, values == border
    return float(came[above].sum() + came[level].mean() * (size - above.sum()))


def lift(scores: Sequence[float], outcomes: Sequence[bool]) -> float:
    """The share of outcomes in the top tenth over that in all; 1 where there are none.

    >>> lift([0.9, 0.8, *[0.1] * 18], [True, True, *[False] * 16, True, True])
    5.0
    """
    share = float(np.mean(outcomes))
    return in_top(scores, outcomes) / top_of(scores) / share if share else 1.0


def lift_interval(scores: Sequence[float], outcomes: Sequence[bool], seed: int) -> tuple[float, float]:
    """95 % of the lifts of resampled pairs: how much it depends on who happened to be in the data."""
    chance = np.random.default_rng(seed)
    values, came = np.asarray(scores, dtype=np.float64), np.asarray(outcomes, dtype=bool)
    found = []
    for _ in range(RESAMPLES):
        drawn = chance.integers(0, len(values), len(values))
        found.append(lift(values[drawn], came[drawn]))  # type: ignore[arg-type]
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
