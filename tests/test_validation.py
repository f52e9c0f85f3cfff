"""The figures of progressive validation, against the definitions and scikit-learn."""

import random
from itertools import product

import pytest
from sklearn.metrics import log_loss, roc_auc_score

from tillstream.models.validation import Validation, binned_auc, ranked_auc


def tally(seed: int, count: int, strength: float) -> tuple[Validation, list[float], list[bool]]:
    """Scores that are calibrated where `strength` is 1."""
    chance = random.Random(seed)
    validation, scores, outcomes = Validation(), [], []
    for _ in range(count):
        score = min(0.99, max(0.001, chance.betavariate(1, 8)))
        outcome = chance.random() < strength * score
        validation.add(score, outcome)
        scores.append(score)
        outcomes.append(outcome)
    return validation, scores, outcomes


def test_validation_agrees_with_the_definitions() -> None:
    validation, scores, outcomes = tally(1, 5_000, 1.0)
    auc = validation.auc()
    assert auc is not None
    assert auc.value == pytest.approx(roc_auc_score(outcomes, scores), abs=0.002)
    exact = ranked_auc(scores, outcomes)
    assert exact is not None
    assert exact.value == pytest.approx(roc_auc_score(outcomes, scores), rel=1e-9)
    assert validation.log_loss() == pytest.approx(log_loss(outcomes, scores), rel=1e-9)
    assert validation.outcomes == (sum(outcomes), 5_000 - sum(outcomes))


def test_auc_of_bins_counts_pairs_and_ties_half() -> None:
    positives, negatives = [1, 1, 2], [2, 1, 1]
    ups = [place for place, count in enumerate(positives) for _ in range(count)]
    downs = [place for place, count in enumerate(negatives) for _ in range(count)]
    pairs = [1.0 if up > down else 0.5 if up == down else 0.0 for up, down in product(ups, downs)]
    auc = binned_auc(positives, negatives)
    assert auc is not None
    assert auc.value == pytest.approx(sum(pairs) / len(pairs))


def test_auc_interval_covers_the_truth_in_most_samples() -> None:
    whole = tally(0, 200_000, 1.0)[0].auc()
    assert whole is not None
    found = [tally(seed, 400, 1.0)[0].auc() for seed in range(1, 201)]
    assert sum(auc is not None and auc.low <= whole.value <= auc.high for auc in found) >= 180


def test_validation_without_two_of_either_kind_has_no_auc() -> None:
    validation = Validation()
    assert validation.auc() is None
    assert validation.log_loss() is None
    assert validation.calibration() == []
    for outcome in (True, False, False):
        validation.add(0.3, outcome)
    assert validation.auc() is None


def test_calibration_shows_scores_that_are_right_and_scores_that_are_twice_too_high() -> None:
    right, doubled = tally(3, 20_000, 1.0)[0].calibration(), tally(3, 20_000, 0.5)[0].calibration()
    assert 8 <= len(right) <= 10
    assert sum(group.decisions for group in right) == 20_000
    assert all(group.share == pytest.approx(group.score, abs=0.03) for group in right)
    assert doubled[-1].share == pytest.approx(doubled[-1].score / 2, abs=0.03)
    assert [group.score for group in right] == sorted(group.score for group in right)
