"""Linear models of River as a kernel, for whoever only asks. In: a taught model, and the names of the features that there are. Out: the
same model behind `score`, at a tenth of the time.

`logistic` and `ftrl` are linear in the squashed features, so all that they know are four numbers a feature (kernels/linear.pyx). Of `ftrl`
a feature is first hashed to a place and a sign; where two of the names share a place, and for every other kind of model, River is asked.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from river.compose import Pipeline
from river.linear_model import LogisticRegression
from river.optim.losses import Log
from river.preprocessing import FeatureHasher, StandardScaler

from tillstream.kernels.linear import Linear
from tillstream.models.propensity import Features, RiverModel, Scores, between

Term = tuple[float, float, float, float]


class LinearModel:
    """A model of River as it was when this was made; whatever the kernel has no answer to, River has."""

    def __init__(self, river: RiverModel, kernel: Linear) -> None:
        self.river = river
        self.kernel = kernel

    def score(self, features: Features) -> float:
        """See `Scores`."""
        share = self.kernel.probability(features if isinstance(features, dict) else dict(features))
        return self.river.score(features) if share is None else between(share)


def fast(model: Scores, names: Iterable[str]) -> Scores:
    """The model as a kernel, where it is linear and was taught; otherwise itself. What is taught later, the kernel does not know."""
    if not isinstance(model, RiverModel) or not model.lessons or not isinstance(model.estimator, Pipeline):
        return model
    *transformers, last = model.estimator.steps.values()
    places = placed(transformers[:-1], names)
    if places is None or not is_plain(transformers[-1:], last):
        return model
    return LinearModel(model, Linear(terms_of(transformers[-1], last.weights, places), last.intercept))


def placed(before: list[Any], names: Iterable[str]) -> dict[str, tuple[Any, float]] | None:
    """By name what the scaler knows it by, and its sign; None: two names share a place, or something else than a hasher comes first."""
    if not before:
        return {name: (name, 1.0) for name in names}
    hasher: Any = before[0]
    if len(before) > 1 or type(before[0]) is not FeatureHasher:
        return None
    found: dict[str, tuple[Any, float]] = {}
    for name in names:
        ((place, sign),) = hasher.transform_one({name: 1.0}).items()
        found[name] = (place, sign)
    return found if len({place for place, _ in found.values()}) == len(found) else None


def is_plain(scalers: list[Any], last: Any) -> bool:
    """Whether the rest is what the kernel's formula says."""
    return (
        [type(one) for one in scalers] == [StandardScaler]
        and (scalers[0].with_std, scalers[0].window_size) == (True, None)
        and type(last) is LogisticRegression
        and type(last.loss) is Log
    )


def terms_of(scaler: Any, weights: Mapping[Any, float], places: Mapping[str, tuple[Any, float]]) -> dict[str, Term]:
    """The kernel's terms; of what the scaler never saw, the deviation is 0."""
    return {
        name: (sign, scaler.means.get(place, 0.0), scaler.vars.get(place, 0.0) ** 0.5, weights.get(place, 0.0))
        for name, (place, sign) in places.items()
    }
