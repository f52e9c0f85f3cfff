"""How much an account is like a seed group: a logistic regression on scaled features, trained on the past (docs/adr/0028).

In: a seed, a date, a horizon in days. Out: a score per candidate, which is the probability to join the seed within the horizon, and what
the model was proved on: scores of candidates that it had not seen, and whether they joined.

Of a dated seed, with H the horizon and D the date:

    trained at D-4H, D-3H, D-2H    on who joined within the H days after each
    proved at D-H                  on who joined within the H days up to D, which no training has seen
    scored at D                    by a model that is trained at all four

Candidates are those that are not in the seed at that date; so the model is asked, trained and proved about the same kind of people.
"""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from clickhouse_connect.driver.client import Client

from tillstream.audience.features import Matrix, categories, features
from tillstream.audience.seeds import FIRST_DAY, Dated, seed_at
from tillstream.errors import CheckFailed, UsageError

if TYPE_CHECKING:
    from numpy import bool_, float64
    from numpy.typing import NDArray

    Numbers = NDArray[float64]
    Flags = NDArray[bool_]

TRAINED_AT = (4, 3, 2)
"""Horizons before the date at which a model is trained: joining is rare, and three times as many examples steady it."""

PROVED_AT = 1
"""Horizons before the date at which it is proved."""

JOINED_MIN = 10
"""Below ten that joined, neither a model nor its proof says anything: the interval of the AUC is wider than what a good model gains."""

PENALTY = 0.01
"""scikit-learn's C: 50 features and some dozens that joined want a strong one; measured in docs/adr/0028."""

STEPS_MAX = 1_000
FOLDS = 5
SEED = 1

DRIVERS = 10
"""Features that are told with a model, by the size of their weight."""

MISSING = "needs scikit-learn; pip install 'tillstream[audience]'"

Say = Callable[[str], None]
May = Callable[[str], bool]


class Scored(NamedTuple):
    """Scores of candidates at the date; the proof's scores and whether those candidates joined; what weighs most, by feature; how proved.

    `dates` are those at which the model was trained and proved; none of a list.
    """

    accounts: list[str]
    scores: "Numbers"
    proof_scores: "Numbers"
    proof_joined: "Flags"
    drivers: list[tuple[str, float]]
    method: str
    dates: list[date]


class Example(NamedTuple):
    """The candidates at a date, and which of them joined within the horizon after it."""

    matrix: Matrix
    joined: "Flags"


def by_time(client: Client, seed: Dated, as_of: date, horizon_days: int, may: May, say: Say) -> Scored:
    """Scores by a dated seed, of accounts that `may` be profiled, learned from such accounts only.

    Raises:
        CheckFailed: too few joined to train or prove a model.
        UsageError: scikit-learn is not installed.
    """
    import_sklearn()
    import numpy

    dates = [as_of - timedelta(days=horizon_days * back) for back in (*TRAINED_AT, PROVED_AT)]
    shares_of = categories(client, dates[0]) or categories(client, dates[-1])
    examples = []
    for day in dates:
        say(f"features as of {day}")
        matrix = candidates(client, seed, day, shares_of, may)
        joined = seed.joined(day, day + timedelta(days=horizon_days))
        examples.append(Example(matrix, numpy.array([account in joined for account in matrix.accounts], dtype=bool)))
    *past, proof = examples
    check_enough("trained", past, horizon_days, as_of)
    check_enough("proved", [proof], horizon_days, as_of)
    say("training and proving")
    proved = trained(past)
    last = trained(examples)
    say(f"features as of {as_of}")
    now = candidates(client, seed, as_of, shares_of, may)
    if not now.accounts:
        raise CheckFailed(f"nobody is left to score on {as_of}: all that bought lately are in the seed, or may not be profiled")
    return Scored(
        now.accounts, probability(last, now), probability(proved, proof.matrix), proof.joined,
        drivers_of(last, now.names), "time split", dates,
    )  # fmt: skip


def by_list(client: Client, listed: set[str], as_of: date, may: May, say: Say) -> Scored:
    """Scores by a list of accounts, among those that `may` be profiled; each by a model that has not seen it, the list's own for the proof.

    Raises:
        CheckFailed: too few of the list bought lately.
        UsageError: scikit-learn is not installed.
    """
    import_sklearn()
    import numpy
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    say(f"features as of {as_of}")
    matrix = features(client, as_of, categories(client, as_of))
    matrix = matrix.rows([place for place, account in enumerate(matrix.accounts) if may(account)])
    members = numpy.array([account in listed for account in matrix.accounts], dtype=bool)
    if (few := min(int(members.sum()), len(members) - int(members.sum()))) < JOINED_MIN:
        raise CheckFailed(f"of those that bought lately {few} are in the seed, or outside of it; at least {JOINED_MIN} are needed")
    say("training and proving")
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    scores = cross_val_predict(model(), matrix.values, members, cv=folds, method="predict_proba")[:, 1]
    outside = [place for place, member in enumerate(members) if not member]
    whole = model().fit(matrix.values, members)
    return Scored(
        [matrix.accounts[place] for place in outside], scores[outside], scores, members,
        drivers_of(whole, matrix.names), f"{FOLDS} folds", [],
    )  # fmt: skip


def candidates(client: Client, seed: Dated, day: date, shares_of: Sequence[str], may: May) -> Matrix:
    """Who bought lately, may be profiled and is not in the seed; of a seed of some days also whether they were in it before."""
    import numpy

    matrix = features(client, day, shares_of)
    now = seed_at(seed, day)
    matrix = matrix.rows([place for place, account in enumerate(matrix.accounts) if account not in now and may(account)])
    if seed.within_days is None:
        return matrix
    before = seed.joined(FIRST_DAY, day)
    flags = numpy.array([[account in before] for account in matrix.accounts], dtype=numpy.float64).reshape(-1, 1)
    return Matrix(matrix.accounts, [*matrix.names, "in_seed_before"], numpy.hstack([matrix.values, flags]))


def check_enough(what: str, examples: Sequence[Example], horizon_days: int, as_of: date) -> None:
    """Raises CheckFailed where too few joined, or nobody was left to."""
    joined = sum(int(example.joined.sum()) for example in examples)
    others = sum(len(example.joined) for example in examples) - joined
    if min(joined, others) < JOINED_MIN:
        raise CheckFailed(
            f"{joined} joined the seed and {others} did not in the time on which a model is {what}; at least {JOINED_MIN} of each are "
            f"needed: widen the seed, or take another --horizon-days (now {horizon_days}) or --as-of (now {as_of})"
        )


def model() -> Any:
    """The model, untrained."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=STEPS_MAX))


def trained(examples: Sequence[Example]) -> Any:
    """A model that has seen some examples; those without candidates add nothing."""
    import numpy

    return model().fit(numpy.vstack([each.matrix.values for each in examples]), numpy.concatenate([each.joined for each in examples]))


def probability(fitted: Any, matrix: Matrix) -> "Numbers":
    """Per row the probability to join."""
    scores: Numbers = fitted.predict_proba(matrix.values)[:, 1]
    return scores


def drivers_of(fitted: Any, names: Sequence[str]) -> list[tuple[str, float]]:
    """The features that weigh most: the change of the log odds by one standard deviation."""
    weights = fitted[-1].coef_[0]
    heaviest = sorted(zip(names, map(float, weights), strict=True), key=lambda item: (-abs(item[1]), item[0]))
    return [(name, round(weight, 3)) for name, weight in heaviest[:DRIVERS]]


def import_sklearn() -> None:
    """Raises UsageError, in one sentence, where the extra is not installed."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise UsageError(f"tillstream audience {MISSING}") from None
