"""What online models are compared to: scikit-learn's, trained anew on all that is known. In: lessons, whom to score. Out: probabilities."""

from collections.abc import Callable, Sequence
from typing import Any

from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tillstream.models.propensity import squashed

Known = dict[str, float]


def _trained(estimator: Any, known: Sequence[Known], outcomes: Sequence[bool], asked: Sequence[Known]) -> list[float]:
    model = make_pipeline(DictVectorizer(sparse=False), *estimator).fit([squashed(one) for one in known], list(outcomes))
    scores: list[float] = model.predict_proba([squashed(one) for one in asked])[:, 1].tolist()
    return scores


def _logistic(known: Sequence[Known], outcomes: Sequence[bool], asked: Sequence[Known]) -> list[float]:
    return _trained([StandardScaler(), LogisticRegression(C=0.05, max_iter=1_000)], known, outcomes, asked)


def _boosting(known: Sequence[Known], outcomes: Sequence[bool], asked: Sequence[Known]) -> list[float]:
    trees = HistGradientBoostingClassifier(max_iter=60, learning_rate=0.05, max_leaf_nodes=6, random_state=1)
    return _trained([trees], known, outcomes, asked)


BATCH: dict[str, Callable[[Sequence[Known], Sequence[bool], Sequence[Known]], list[float]]] = {
    "logistic regression": _logistic,
    "gradient boosting": _boosting,
}
