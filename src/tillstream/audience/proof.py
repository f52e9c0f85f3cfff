"""What scores are worth: computed on candidates that the model had not seen.

    AUC           the probability that one that joined has a higher score than one that did not; with the interval of DeLong
    lift          of each tenth by score: the share that joined, over that of all
    calibration   of each tenth by score: the mean score beside the share that joined
    log loss      of the scores, and of the base rate in their place

Formulas: DeLong, DeLong, Clarke-Pearson 1988 (Biometrics 44, 837), by midranks as Sun and Xu 2014 (IEEE Signal Processing Letters 21,
1389); the interval of a share: Wilson 1927 (JASA 22, 209).
"""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy import bool_, float64
    from numpy.typing import NDArray

    Numbers = NDArray[float64]
    Flags = NDArray[bool_]

Z_95 = 1.959963984540054
"""The normal quantile of a two-sided interval of 95 %."""

TENTHS = 10
SCORE_MIN = 1e-9
"""A score of 0 or 1 would make the log loss infinite."""


class Tenth(NamedTuple):
    """A tenth of the candidates, 1 with the highest scores; `low` and `high` bound the share that joined (95 %)."""

    decile: int
    candidates: int
    joined: int
    score: float
    share: float
    low: float
    high: float
    lift: float


class Proof(NamedTuple):
    """How well scores tell who joins; `low` and `high` bound the AUC (95 %)."""

    candidates: int
    joined: int
    share: float
    auc: float
    low: float
    high: float
    log_loss: float
    log_loss_base: float
    tenths: list[Tenth]

    def as_json(self) -> dict[str, Any]:
        """As reports and `--json` have it."""
        return {**self._asdict(), "tenths": [tenth._asdict() for tenth in self.tenths]}


def prove(scores: "Numbers", joined: "Flags") -> Proof:
    """Judges scores by what became of the candidates; some joined and some did not.

    >>> import numpy
    >>> proof = prove(numpy.array([0.9, 0.8, 0.3, 0.1]), numpy.array([True, False, True, False]))
    >>> proof.auc, proof.share
    (0.75, 0.5)
    """
    share = float(joined.mean())
    auc, low, high = auc_of(scores, joined)
    return Proof(
        len(scores), int(joined.sum()), round(share, 6), auc, low, high,
        log_loss(scores, joined), log_loss(scores * 0 + share, joined), tenths(scores, joined),
    )  # fmt: skip


def auc_of(scores: "Numbers", joined: "Flags") -> tuple[float, float, float]:
    """The area under the ROC curve, and its interval."""
    from scipy.stats import rankdata

    ranks, those, others = rankdata(scores), scores[joined], scores[~joined]
    above = (ranks[joined] - rankdata(those)) / len(others)
    below = 1 - (ranks[~joined] - rankdata(others)) / len(those)
    auc = float(above.mean())
    variance = sum(float(part.var(ddof=1)) / len(part) for part in (above, below) if len(part) > 1)
    reach = Z_95 * math.sqrt(variance)
    return round(auc, 4), round(max(0.0, auc - reach), 4), round(min(1.0, auc + reach), 4)


def log_loss(scores: "Numbers", joined: "Flags") -> float:
    """Mean negative log likelihood, in nats."""
    import numpy

    right = numpy.where(joined, scores, 1 - scores)
    return round(float(-numpy.log(numpy.clip(right, SCORE_MIN, 1)).mean()), 5)


def tenths(scores: "Numbers", joined: "Flags") -> list[Tenth]:
    """Candidates in tenths by score, the highest first; equal scores in the order in which they came."""
    import numpy

    share = float(joined.mean())
    found = []
    for number, places in enumerate(numpy.array_split(numpy.argsort(-scores, kind="stable"), TENTHS), 1):
        if len(places) == 0:
            continue
        count, hits = len(places), int(joined[places].sum())
        low, high = wilson(hits, count)
        rate = hits / count
        found.append(
            Tenth(number, count, hits, round(float(scores[places].mean()), 6), round(rate, 6), low, high, round(rate / share, 3))
        )
    return found


def wilson(hits: int, count: int) -> tuple[float, float]:
    """The interval of a share (95 %).

    >>> wilson(0, 10)
    (0.0, 0.277533)
    """
    rate, square = hits / count, Z_95**2
    middle = (rate + square / (2 * count)) / (1 + square / count)
    reach = Z_95 / (1 + square / count) * math.sqrt(rate * (1 - rate) / count + square / (4 * count**2))
    return round(max(0.0, middle - reach), 6), round(min(1.0, middle + reach), 6)
