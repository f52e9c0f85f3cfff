"""Choosing among offers: probabilities that are what they say, the same choice for the same decision, and little lost on the way."""

import random
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tillstream.models.bandit import NothingToChoose, choose, probabilities
from tillstream.models.propensity import untaught

SCORES = st.dictionaries(st.text(min_size=1, max_size=5), st.floats(0, 1), min_size=1, max_size=8)


@given(SCORES, st.integers(0, 10**9))
def test_probabilities_sum_to_one_and_follow_the_scores(scores: dict[str, float], outcomes: int) -> None:
    shares = probabilities(scores, outcomes)
    assert sum(shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in shares.values())
    ranked = sorted(scores, key=lambda offer_id: scores[offer_id])
    for worse, better in pairwise(ranked):
        assert shares[worse] <= shares[better] + 1e-12 or scores[worse] == scores[better]


@given(SCORES, st.integers(0, 10**6), st.text(max_size=10))
def test_choice_of_a_decision_taken_again_is_the_same_in_any_order(scores: dict[str, float], outcomes: int, decision: str) -> None:
    choice = choose(decision, scores, outcomes)
    assert choice == choose(decision, dict(reversed(scores.items())), outcomes)
    assert choice.probability == probabilities(scores, outcomes)[choice.offer_id]


def test_choices_of_many_decisions_are_as_frequent_as_they_say() -> None:
    scores = {"bread": 0.10, "cheese": 0.14, "tea": 0.05}
    counted = Counter(choose(f"d-{n}", scores, 500).offer_id for n in range(20_000))
    for offer_id, share in probabilities(scores, 500).items():
        assert counted[offer_id] / 20_000 == pytest.approx(share, abs=0.012)


def test_choosing_without_offers_is_refused() -> None:
    with pytest.raises(NothingToChoose, match="`scores` is empty"):
        choose("d-1", {}, 0)


def test_bandit_learning_as_it_goes_finds_whom_to_offer_what() -> None:
    """Families answer to bread, singles to tea; after 3,000 decisions most get what they answer to."""
    chance = random.Random(5)
    models = {offer_id: untaught("logistic") for offer_id in ("bread", "tea")}
    right = 0
    worth = {"bread": {True: 0.4, False: 0.05}, "tea": {True: 0.05, False: 0.4}}
    for number in range(3_000):
        family = chance.random() < 0.5
        features = {"family": float(family)}
        choice = choose(f"d-{number}", {offer_id: model.score(features) for offer_id, model in models.items()}, number)
        models[choice.offer_id].learn(features, chance.random() < worth[choice.offer_id][family])
        right += number >= 2_000 and (choice.offer_id == "bread") == family
    assert right > 950


def test_bandit_probabilities_say_what_another_way_would_have_brought() -> None:
    """Weighting outcomes by 1/probability estimates what offering bread to everybody brings, which nobody has tried."""
    chance = random.Random(6)
    total = 0.0
    for number in range(20_000):
        choice = choose(f"d-{number}", {"bread": 0.2, "tea": 0.25}, 100)
        outcome = chance.random() < {"bread": 0.3, "tea": 0.1}[choice.offer_id]
        total += outcome / choice.probability if choice.offer_id == "bread" else 0.0
    assert total / 20_000 == pytest.approx(0.3, abs=0.02)
