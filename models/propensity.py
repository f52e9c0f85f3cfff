"""How likely an offer comes to something: models by name, each behind two methods. In: features by name. Out: a probability; lessons taken.

    logistic   numbers squashed and standardised, a logistic regression by stochastic gradient descent
    ftrl       the same numbers, hashed to `BUCKETS` weights, FTRL-Proximal with L1 and L2 (McMahan et al., Ad Click Prediction, KDD 2013)
    forest     an adaptive random forest of ten Hoeffding trees (Gomes et al., Machine Learning 106, 2017)

All are River's. What they do depends on what they were taught and in which order, and on nothing else: chance inside of them is seeded. A
feature that is left out counts as average (`forest`: takes the more common branch).
"""

from collections.abc import Callable, Mapping
from math import copysign, isfinite, log, log1p
from typing import Any, Protocol

from river import compose, forest, linear_model, optim, preprocessing

Features = Mapping[str, float]

PRIOR = 0.05
"""What a model says before it was taught: one offer in twenty. Shares in retail are between 0.01 and 0.2."""

CERTAIN = 0.001
"""So near to 0 and to 1 no score comes: a forest says 0 of what it never saw, and one such would spoil the log loss for ever."""

BUCKETS = 2**16
"""Weights of `ftrl`. A hundred features share one in 1 of 13 models; memory is bounded whatever names come."""

SEED = 1
"""Of the hashes and of the forest's chance: the same everywhere."""


class BadFeature(ValueError):
    """A feature that is no finite number; `name` says which."""

    def __init__(self, name: str, value: float) -> None:
        self.name = name
        super().__init__(f"feature {name!r} is {value}: give a finite number, or leave it out where it is not known")


class Scores(Protocol):
    """What those who decide know of a model."""

    def score(self, features: Features) -> float:
        """The probability of an outcome, within `CERTAIN` and 1 - `CERTAIN`; nothing is learned. Raises BadFeature."""


class Propensity(Scores, Protocol):
    """What the rest of tillstream knows of a model."""

    def learn(self, features: Features, outcome: bool) -> None:
        """Takes one lesson. Raises BadFeature, and has learned nothing then."""


class RiverModel:
    """A classifier of River behind the two methods; `estimator` is a pipeline that says probabilities."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self.lessons = 0

    def score(self, features: Features) -> float:
        """See `Propensity`."""
        known = squashed(features)
        # A forest takes the first features that it sees for all there are, also where it is only asked.
        return between(self.estimator.predict_proba_one(known).get(True, 0.0) if self.lessons else PRIOR)

    def learn(self, features: Features, outcome: bool) -> None:
        """See `Propensity`."""
        self.estimator.learn_one(squashed(features), outcome)
        self.lessons += 1


def squashed(features: Features) -> dict[str, float]:
    """Sums of money and counts on a scale of magnitudes, sign(x)·ln(1 + |x|), in the order of names; raises BadFeature.

    >>> squashed({"visits": 0.0, "spend": 99.0})
    {'spend': 4.605170185988092, 'visits': 0.0}
    """
    for name, value in features.items():
        if not isfinite(value):
            raise BadFeature(name, value)
    return {name: copysign(log1p(abs(features[name])), features[name]) for name in sorted(features)}


def between(share: float) -> float:
    """A probability drawn towards one half, so that it is within `CERTAIN` and 1 - `CERTAIN`; order stays.

    >>> between(0.0), between(0.5), between(1.0)
    (0.001, 0.5, 0.999)
    """
    return CERTAIN + (1 - 2 * CERTAIN) * share


def _odds(share: float) -> float:
    return log(share / (1 - share))


def _logistic() -> Any:
    steps = optim.SGD(0.01)
    return compose.Pipeline(
        preprocessing.StandardScaler(), linear_model.LogisticRegression(optimizer=steps, intercept_init=_odds(PRIOR), clip_gradient=1.0)
    )


def _ftrl() -> Any:
    steps = optim.FTRLProximal(alpha=0.05, beta=1.0, l1=0.1, l2=1.0)
    return compose.Pipeline(
        preprocessing.FeatureHasher(n_features=BUCKETS, seed=SEED),
        preprocessing.StandardScaler(),
        linear_model.LogisticRegression(optimizer=steps, intercept_init=_odds(PRIOR)),
    )


def _forest() -> Any:
    return forest.ARFClassifier(n_models=10, grace_period=50, seed=SEED)


PIPELINES: dict[str, Callable[[], Any]] = {"logistic": _logistic, "ftrl": _ftrl, "forest": _forest}
"""The pipelines by name; a new one has to pass tests/test_propensity.py."""


class UnknownModel(ValueError):
    """No model has this name; says which there are."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no model is called {name!r}; there are {', '.join(PIPELINES)}")


def untaught(name: str) -> Propensity:
    """A model that has learned nothing; raises UnknownModel."""
    if name not in PIPELINES:
        raise UnknownModel(name)
    return RiverModel(PIPELINES[name]())
