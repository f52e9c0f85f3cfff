"""Uplift on simulated outcomes whose effect is known: intervals cover it as often as they say."""

import random
from collections.abc import Callable

import pytest

from tillstream.models.uplift import Arm, ArmsTooSmall, Difference, adjusted_difference, difference, share_difference

SEEDS = 200
DECISIONS = 1_500
CONTROL = 0.2
EFFECT = 0.03


def simulated(seed: int, effect: float) -> tuple[Arm, Arm, Arm, Arm]:
    """Treated and control, of shares and of amounts; people differ in how likely they buy anyway, and the score knows half of it."""
    chance = random.Random(seed)
    arms = [Arm(), Arm(), Arm(), Arm()]
    for _ in range(DECISIONS):
        anyway = chance.betavariate(1, 9)
        score = 0.5 * anyway + 0.5 * chance.betavariate(1, 9)
        control = chance.random() < CONTROL
        bought = chance.random() < anyway + (0 if control else effect)
        amount = 500 + round(5_000 * anyway) if bought else 0
        arms[control] = arms[control].with_one(bought, score)
        arms[2 + control] = arms[2 + control].with_one(amount, score)
    return arms[0], arms[1], arms[2], arms[3]


def covered(found: list[Difference], truth: float) -> float:
    return sum(one.low <= truth <= one.high for one in found) / len(found)


@pytest.mark.parametrize("method", [share_difference, difference, adjusted_difference])
@pytest.mark.parametrize("effect", [0.0, EFFECT])
def test_interval_of_shares_covers_the_known_effect(method: Callable[[Arm, Arm], Difference], effect: float) -> None:
    found = [method(*simulated(seed, effect)[:2]) for seed in range(SEEDS)]
    assert 0.90 <= covered(found, effect) < 1.0
    assert sum(one.estimate for one in found) / SEEDS == pytest.approx(effect, abs=0.005)


@pytest.mark.parametrize("method", [difference, adjusted_difference])
def test_interval_of_amounts_covers_the_known_effect(method: Callable[[Arm, Arm], Difference]) -> None:
    # An extra purchase costs 500 + 5,000 · 0.1 on average, whoever makes it.
    truth = EFFECT * 1_000
    assert covered([method(*simulated(seed, EFFECT)[2:]) for seed in range(SEEDS)], truth) >= 0.90


def test_interval_adjusted_by_the_score_is_narrower() -> None:
    arms = [simulated(seed, EFFECT)[2:] for seed in range(20)]
    plain = sum(found.high - found.low for found in (difference(*pair) for pair in arms))
    adjusted = sum(found.high - found.low for found in (adjusted_difference(*pair) for pair in arms))
    assert adjusted < 0.97 * plain


def test_interval_of_an_effect_that_is_there_excludes_zero_in_the_end() -> None:
    treated, control = Arm(20_000, 2_600, 2_600), Arm(5_000, 500, 500)
    assert share_difference(treated, control).estimate == pytest.approx(0.03)
    assert share_difference(treated, control).low > 0


def test_interval_of_shares_without_a_purchase_still_has_a_width() -> None:
    found = share_difference(Arm(100, 0, 0), Arm(50, 0, 0))
    assert found.estimate == 0
    assert found.low < -0.01 < 0.01 < found.high


def test_adjusting_by_a_score_that_never_differs_changes_nothing() -> None:
    treated, control = Arm(), Arm()
    for n in range(40):
        treated, control = treated.with_one(n % 3 == 0, 0.5), control.with_one(n % 5 == 0, 0.5)
    assert adjusted_difference(treated, control) == pytest.approx(difference(treated, control))


def test_arms_of_too_few_decisions_are_refused() -> None:
    with pytest.raises(ArmsTooSmall, match="an arm has 1 decisions"):
        share_difference(Arm(100, 3, 3), Arm(1, 0, 0))
