"""What offers brought: treated less control, with a confidence interval. In: sums over decisions, one arm each. Out: a difference.

Of every decision, y is what came of it within its window (1 if goods of the offer were bought, or their amount in minor units), and x what
was known before: its score. An arm is six sums, so that it can be kept for ever and added up.

- `share_difference`: of shares, by Newcombe's hybrid of Wilson intervals (Statistics in Medicine 17, 1998, method 10), which holds for few
  purchases as well.
- `difference`: of means, by the normal approximation with a variance for each arm (Welch).
- `adjusted_difference`: the same of y - theta · x with theta = cov(x, y) / var(x) within arms (CUPED; Deng et al., WSDM 2013): narrower
  by the correlation of score and outcome, and never biased by it, since x stands before the group is known.

The intervals take decisions for independent. Where a member gets many, they are too narrow; a group is drawn by member and offer.
"""

from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

CONFIDENCE = 0.95


class Arm(NamedTuple):
    """Decisions of one group: how many, and the sums of y, y², x, x² and xy."""

    decisions: int = 0
    y: float = 0
    yy: float = 0
    x: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    def with_one(self, y: float, x: float = 0.0) -> "Arm":
        """The arm with one more decision."""
        return Arm(self.decisions + 1, self.y + y, self.yy + y * y, self.x + x, self.xx + x * x, self.xy + x * y)


class Difference(NamedTuple):
    """An estimate, and the interval that covers the truth in `CONFIDENCE` of cases; in the unit of y."""

    estimate: float
    low: float
    high: float


class ArmsTooSmall(ValueError):
    """Not enough decisions to say anything; `decisions` of the smaller arm."""

    def __init__(self, decisions: int) -> None:
        self.decisions = decisions
        super().__init__(f"an arm has {decisions} decisions: a difference takes two in each; wait, or raise the offer's `control`")


def share_difference(treated: Arm, control: Arm, confidence: float = CONFIDENCE) -> Difference:
    """The difference of two shares; y is 0 or 1. Raises ArmsTooSmall."""
    _checked(treated, control)
    z = _z(confidence)
    (p, p_low, p_high), (q, q_low, q_high) = _wilson(treated, z), _wilson(control, z)
    return Difference(p - q, p - q - sqrt((p - p_low) ** 2 + (q_high - q) ** 2), p - q + sqrt((p_high - p) ** 2 + (q - q_low) ** 2))


def difference(treated: Arm, control: Arm, confidence: float = CONFIDENCE) -> Difference:
    """The difference of two means. Raises ArmsTooSmall."""
    return _difference(treated, control, 0.0, confidence)


def adjusted_difference(treated: Arm, control: Arm, confidence: float = CONFIDENCE) -> Difference:
    """The difference of two means, less what the scores had said of it already. Raises ArmsTooSmall."""
    _checked(treated, control)
    variation = sum(_squares(arm.xx, arm.x, arm.x, arm.decisions) for arm in (treated, control))
    together = sum(_squares(arm.xy, arm.x, arm.y, arm.decisions) for arm in (treated, control))
    return _difference(treated, control, together / variation if variation > 0 else 0.0, confidence)


def _difference(treated: Arm, control: Arm, theta: float, confidence: float) -> Difference:
    _checked(treated, control)
    estimate = (treated.y - theta * treated.x) / treated.decisions - (control.y - theta * control.x) / control.decisions
    reach = _z(confidence) * sqrt(_variance_of_mean(treated, theta) + _variance_of_mean(control, theta))
    return Difference(estimate, estimate - reach, estimate + reach)


def _variance_of_mean(arm: Arm, theta: float) -> float:
    """Of the mean of y - theta · x."""
    n = arm.decisions
    squares = (
        _squares(arm.yy, arm.y, arm.y, n) - 2 * theta * _squares(arm.xy, arm.x, arm.y, n) + theta**2 * _squares(arm.xx, arm.x, arm.x, n)
    )
    return max(0.0, squares) / (n - 1) / n


def _squares(products: float, first: float, second: float, n: int) -> float:
    """The sum of products of deviations from the means."""
    return products - first * second / n


def _wilson(arm: Arm, z: float) -> tuple[float, float, float]:
    """A share and Wilson's interval."""
    n, share = arm.decisions, arm.y / arm.decisions
    middle = share + z * z / (2 * n)
    reach = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return share, (middle - reach) / (1 + z * z / n), (middle + reach) / (1 + z * z / n)


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _checked(*arms: Arm) -> None:
    fewest = min(arm.decisions for arm in arms)
    if fewest < 2:
        raise ArmsTooSmall(fewest)
