"""Who speaks for an offer: a champion, and challengers that learn beside it. In: lessons. Out: the champion, and why it is the champion.

Every model scores a decision when it is made and is taught its outcome when that is known, so all are judged on what they had not seen.

**Promotion.** A challenger takes the champion's place at a look if both have scored at least `DECISIONS_MIN` decisions, `POSITIVES_MIN` of
them with an outcome, and its log loss is lower by a paired test: the mean of the differences over its standard error is above the quantile
of 1 - alpha. Looks come when the decisions have doubled; the k-th has alpha = `ALPHA` / (k · (k + 1)) / challengers. So
however often one looks, the chance that one no better is promoted is at most `ALPHA`, the sum of all, as far as means are normal by then.
Then the comparison of all begins anew.

**Drift.** ADWIN (Bifet and Gavaldà, SDM 2007; River's) watches the champion's log loss. Where it rises, the challengers start afresh,
untaught, one of the champion's kind among them, since all remember the same old world; the champion stays until one is better by the rule.
All tallies begin anew.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from math import sqrt
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

from river import drift

from tillstream.models.propensity import Features, Propensity, untaught
from tillstream.models.validation import Validation, loss

DECISIONS_MIN = 500
POSITIVES_MIN = 30
"""With fewer outcomes the mean of log losses is not normal."""

ALPHA = 0.05

EVENTS_MAX = 50
"""Promotions and drifts that are told of an offer; older ones are in the log."""

DRIFT_DELTA = 0.002
"""ADWIN's bound on false alarms, its usual one."""


def watch() -> Any:
    """ADWIN, which River has without types."""
    adwin: Any = drift.ADWIN
    return adwin(delta=DRIFT_DELTA)


class Look(NamedTuple):
    """What a look at a challenger said, of `decisions` that both had scored, `positives` of them with an outcome.

    `gain` is the mean by which its log loss was lower, `error` the standard error of that mean, `level` the alpha that this look had.
    """

    decisions: int
    positives: int
    gain: float
    error: float
    level: float

    @property
    def better(self) -> bool:
        """Whether the challenger's log loss is lower at that level."""
        return self.gain > NormalDist().inv_cdf(1 - self.level) * self.error


class Happened(NamedTuple):
    """A promotion or a drift, after so many lessons, at the time of the decision that ended the last one's window.

    `model` is the champion from then on, `before` the one before it, `look` what the promotion went by; a drift has no look.
    """

    what: Literal["promotion", "drift"]
    lessons: int
    at: datetime
    model: str
    before: str
    look: Look | None = None


class Contestant:
    """One model with its tally; `serial` tells apart two of the same name."""

    def __init__(self, name: str, serial: int) -> None:
        self.name = name
        self.serial = serial
        self.model: Propensity = untaught(name)
        self.restart()

    def restart(self) -> None:
        """Begins the tally and the comparison with the champion anew; what was learned stays."""
        self.validation = Validation()
        self.compared = 0
        self.positives = 0
        self.looks = 0
        self.gain = 0.0
        self.gain_squares = 0.0

    def compare(self, champion_loss: float, own_loss: float, outcome: bool) -> None:
        """Counts a decision that both have scored."""
        gain = champion_loss - own_loss
        self.compared += 1
        self.positives += outcome
        self.gain += gain
        self.gain_squares += gain * gain

    def look(self, challengers: int) -> Look | None:
        """What a look says of this one beside the champion; None: it is not due yet."""
        if self.positives < POSITIVES_MIN or self.compared < DECISIONS_MIN * 2**self.looks:
            return None
        self.looks += 1
        mean = self.gain / self.compared
        error = sqrt(max(0.0, self.gain_squares / self.compared - mean * mean) / self.compared)
        return Look(self.compared, self.positives, mean, error, ALPHA / (self.looks * (self.looks + 1)) / challengers)


class Contest:
    """The models of one offer."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names`: the champion first, then its challengers; raises UnknownModel."""
        self.served = Validation()
        self.lessons = 0
        self.serials = len(names)
        self.champion, *self.challengers = [Contestant(name, serial) for serial, name in enumerate(names)]
        self.happened: list[Happened] = []
        self.watch = watch()

    @property
    def version(self) -> str:
        """Of the champion; a name never means two states.

        >>> Contest(["logistic"]).version
        'logistic.0'
        """
        return f"{self.champion.name}.{self.lessons}"

    def scores(self, features: Features) -> dict[int, float]:
        """What each model says of a decision, by serial; raises BadFeature."""
        return {one.serial: one.model.score(features) for one in (self.champion, *self.challengers)}

    def learn(self, features: Features, scores: Mapping[int, float], outcome: bool, served: float, at: datetime) -> None:
        """Counts what was said of a decision against its outcome, then teaches it.

        `served`: the score that the decision was made by; `at`: when its window was found to be over.
        """
        self.served.add(served, outcome)
        for one in (self.champion, *self.challengers):
            # One that came meanwhile has said nothing; it learns all the same.
            if one.serial in scores:
                one.validation.add(scores[one.serial], outcome)
                if one is not self.champion and self.champion.serial in scores:
                    one.compare(loss(scores[self.champion.serial], outcome), loss(scores[one.serial], outcome), outcome)
            one.model.learn(features, outcome)
        self.lessons += 1
        if self.champion.serial in scores and self._drifted(loss(scores[self.champion.serial], outcome)):
            self._start_afresh(at)
        self._promote(at)

    def _drifted(self, champion_loss: float) -> bool:
        before = self.watch.estimation
        self.watch.update(champion_loss)
        return bool(self.watch.drift_detected) and self.watch.estimation > before

    def _start_afresh(self, at: datetime) -> None:
        # The champion's kind as well: what it learned of the old world may be all that is wrong with it.
        names = dict.fromkeys([*(one.name for one in self.challengers), self.champion.name])
        self.challengers = [Contestant(name, self.serials + place) for place, name in enumerate(names)]
        self.serials += len(names)
        self.served = Validation()
        self.champion.restart()
        self._note(Happened("drift", self.lessons, at, self.champion.name, self.champion.name))

    def _promote(self, at: datetime) -> None:
        looks = [(look, one) for one in self.challengers if (look := one.look(len(self.challengers))) is not None and look.better]
        if not looks:
            return
        look, best = max(looks, key=lambda found: found[0].gain)
        before = self.champion
        self.challengers = [before if one is best else one for one in self.challengers]
        self.champion = best
        for one in (self.champion, *self.challengers):
            one.restart()
        self.watch = watch()
        self._note(Happened("promotion", self.lessons, at, best.name, before.name, look))

    def _note(self, happened: Happened) -> None:
        self.happened = [*self.happened, happened][-EVENTS_MAX:]
