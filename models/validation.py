"""How good scores were: each is noted when a decision is made, and counted when its outcome is known. In: (score, outcome). Out: figures.

Decisions are counted in `BINS` bins of ln(p / (1 - p)), `WIDTH` wide, so memory does not grow and nothing is kept of single decisions.

- AUC: the probability that a score before an outcome is above one before none; ties, of the same bin, count half. Its interval is DeLong's
  (Biometrics 44, 1988), computed on the bins.
- Log loss: the mean of -ln(p) over outcomes and -ln(1 - p) over decisions without.
- Calibration: the mean score beside the share of outcomes, in at most ten groups of neighbouring bins with about equally many decisions.
"""

from collections.abc import Iterator, Sequence
from math import log, sqrt
from statistics import NormalDist
from typing import NamedTuple

from tillstream.models.propensity import CERTAIN

WIDTH = 0.05
_REACH = log((1 - CERTAIN) / CERTAIN)
BINS = int(2 * _REACH / WIDTH) + 1
GROUPS = 10
CONFIDENCE = 0.95


class Auc(NamedTuple):
    """An area under the ROC curve and its interval at `CONFIDENCE`."""

    value: float
    low: float
    high: float


class Group(NamedTuple):
    """Decisions with scores near each other: how many, their mean score, the share of them with an outcome."""

    decisions: int
    score: float
    share: float


def loss(score: float, outcome: bool) -> float:
    """The log loss of one decision; `score` between 0 and 1, neither of them.

    >>> round(loss(0.25, True), 4), round(loss(0.25, False), 4)
    (1.3863, 0.2877)
    """
    return -log(score if outcome else 1 - score)


class Validation:
    """The tally of one model; `score` of every method is within `CERTAIN` and 1 - `CERTAIN`."""

    def __init__(self) -> None:
        self.positives = [0] * BINS
        self.negatives = [0] * BINS
        self.scores = [0.0] * BINS
        self.losses = 0.0

    def add(self, score: float, outcome: bool) -> None:
        """Counts one decision whose outcome is known."""
        place = min(BINS - 1, max(0, int((log(score / (1 - score)) + _REACH) / WIDTH)))
        (self.positives if outcome else self.negatives)[place] += 1
        self.scores[place] += score
        self.losses += loss(score, outcome)

    @property
    def outcomes(self) -> tuple[int, int]:
        """Decisions with an outcome, and without."""
        return sum(self.positives), sum(self.negatives)

    def log_loss(self) -> float | None:
        """The mean; None without decisions."""
        decisions = sum(self.outcomes)
        return self.losses / decisions if decisions else None

    def auc(self) -> Auc | None:
        """None with fewer than two decisions of either kind."""
        return binned_auc(self.positives, self.negatives)

    def calibration(self) -> list[Group]:
        """By ascending score."""
        return list(self._groups())

    def _groups(self) -> Iterator[Group]:
        wanted = max(1, -(-sum(self.outcomes) // GROUPS))
        decisions = positives = 0
        scores = 0.0
        for place in range(BINS):
            decisions += self.positives[place] + self.negatives[place]
            positives += self.positives[place]
            scores += self.scores[place]
            if decisions >= wanted or (place == BINS - 1 and decisions):
                yield Group(decisions, scores / decisions, positives / decisions)
                decisions, positives, scores = 0, 0, 0.0


def binned_auc(positives: list[int], negatives: list[int]) -> Auc | None:
    """DeLong's AUC of counts by ascending bins of scores; None with fewer than two of either kind.

    >>> binned_auc([1, 1, 2], [2, 1, 1]).value
    0.65625
    """
    m, n = sum(positives), sum(negatives)
    if m < 2 or n < 2:
        return None
    below, above = 0, m
    wins: list[tuple[int, float]] = []
    losses: list[tuple[int, float]] = []
    for ups, downs in zip(positives, negatives, strict=True):
        above -= ups
        wins.append((ups, (below + downs / 2) / n))
        losses.append((downs, (above + ups / 2) / m))
        below += downs
    area = sum(count * share for count, share in wins) / m
    spread = _variance(wins, area) / m + _variance(losses, area) / n
    reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * sqrt(spread)
    return Auc(area, max(0.0, area - reach), min(1.0, area + reach))


def ranked_auc(scores: Sequence[float], outcomes: Sequence[bool]) -> Auc | None:
    """The same of all scores as they are; as many of one as of the other. Only equal ones are ties."""
    places = {score: place for place, score in enumerate(sorted(set(scores)))}
    positives, negatives = [0] * len(places), [0] * len(places)
    for score, outcome in zip(scores, outcomes, strict=True):
        (positives if outcome else negatives)[places[score]] += 1
    return binned_auc(positives, negatives)


def _variance(shares: list[tuple[int, float]], mean: float) -> float:
    return sum(count * (share - mean) ** 2 for count, share in shares) / (sum(count for count, _ in shares) - 1)
