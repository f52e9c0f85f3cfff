"""One contract for all models: they learn, they are deterministic, they survive being stored, nothing that comes breaks them."""

import pickle
import random
from math import isfinite, nan

import pytest

from tillstream.models.propensity import CERTAIN, PIPELINES, PRIOR, BadFeature, UnknownModel, between, untaught

Lesson = tuple[dict[str, float], bool]


def lessons(count: int, seed: int = 7) -> list[Lesson]:
    """Of outcomes that are likely where `coupons` is high; `noise` says nothing, and `visits` is sometimes not known."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        coupons = chance.randrange(6)
        features = {"coupons": float(coupons), "noise": chance.gauss(0, 100)}
        if chance.random() < 0.7:
            features["visits"] = float(chance.randrange(50))
        found.append((features, chance.random() < 0.02 + 0.12 * coupons))
    return found


@pytest.fixture(params=list(PIPELINES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_model_untaught_says_the_prior(name: str) -> None:
    assert untaught(name).score({"coupons": 3.0}) == pytest.approx(between(PRIOR))
    assert untaught(name).score({}) == pytest.approx(between(PRIOR))


def test_model_taught_ranks_what_is_likely_first_and_is_calibrated(name: str) -> None:
    model = untaught(name)
    for features, outcome in lessons(3_000):
        model.learn(features, outcome)
    unseen = lessons(1_000, seed=8)
    scores = [model.score(features) for features, _ in unseen]
    by_coupons = [[s for s, (f, _) in zip(scores, unseen, strict=True) if f["coupons"] == float(n)] for n in (0, 5)]
    assert sum(by_coupons[1]) / len(by_coupons[1]) > 2.5 * sum(by_coupons[0]) / len(by_coupons[0])
    share = sum(outcome for _, outcome in unseen) / len(unseen)
    assert sum(scores) / len(scores) == pytest.approx(share, rel=0.25)


def test_model_scoring_teaches_nothing(name: str) -> None:
    asked, left_alone = untaught(name), untaught(name)
    for number, (features, outcome) in enumerate(lessons(300)):
        asked.score({"coupons": float(number)})
        asked.learn(features, outcome)
        left_alone.learn(features, outcome)
    assert [asked.score(f) for f, _ in lessons(50, 9)] == [left_alone.score(f) for f, _ in lessons(50, 9)]


def test_model_taught_the_same_in_any_order_of_names_says_the_same(name: str) -> None:
    forwards, backwards = untaught(name), untaught(name)
    for features, outcome in lessons(800):
        forwards.learn(features, outcome)
        backwards.learn(dict(reversed(features.items())), outcome)
    assert [forwards.score(f) for f, _ in lessons(50, 9)] == [backwards.score(f) for f, _ in lessons(50, 9)]


def test_model_stored_halfway_goes_on_as_if_it_never_was(name: str) -> None:
    stored, whole = untaught(name), untaught(name)
    for number, (features, outcome) in enumerate(lessons(1_200)):
        if number == 600:
            stored = pickle.loads(pickle.dumps(stored))
        stored.learn(features, outcome)
        whole.learn(features, outcome)
    assert [stored.score(f) for f, _ in lessons(50, 9)] == [whole.score(f) for f, _ in lessons(50, 9)]


def test_model_extreme_features_leave_scores_within_bounds(name: str) -> None:
    model = untaught(name)
    for number, (features, outcome) in enumerate(lessons(400)):
        model.learn(features | {"noise": 1e308 if number % 50 == 3 else -1e308} if number % 25 == 3 else features, outcome)
        score = model.score({"coupons": -1e308, "visits": 1e308, f"new-{number}": 5.0})
        assert isfinite(score)
        assert CERTAIN <= score <= 1 - CERTAIN


def test_model_feature_that_is_no_number_is_refused_by_name(name: str) -> None:
    model = untaught(name)
    for bad in (nan, float("inf"), float("-inf")):
        with pytest.raises(BadFeature, match=r"'coupons' is .*finite"):
            model.learn({"coupons": bad}, True)
        with pytest.raises(BadFeature):
            model.score({"coupons": bad})
    assert model.score({"coupons": 1.0}) == pytest.approx(between(PRIOR))


def test_model_of_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownModel, match="logistic, ftrl, forest"):
        untaught("oracle")
