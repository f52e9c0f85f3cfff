"""The replay of The Complete Journey's campaigns: nothing from the future is in a score; figures by hand."""

import random
from datetime import date

import numpy as np
import pytest

from loadtest.journey import Campaign, Journey
from loadtest.lifting import in_top, lift, lift_interval
from loadtest.propensity import Pair, figures_of, online, pairs_of, replayed, report
from tillstream.models.validation import ranked_auc

LEARNED, ASKED = (26, 27, 8), 13
"""Campaigns with many households; 8 has ended when 13 starts. Campaign 12 has not."""


def reduced() -> Journey:
    """The data with the campaigns that these tests look at, and no others."""
    whole = Journey()
    whole.campaigns = [one for one in whole.campaigns if one.id in {*LEARNED, 12, ASKED}]
    there = {one.id for one in whole.campaigns}
    whole.redemptions = [one for one in whole.redemptions if one.campaign in there]
    return whole


@pytest.fixture(scope="module")
def journey() -> Journey:
    return reduced()


@pytest.fixture(scope="module")
def pairs(journey: Journey) -> dict[int, list[Pair]]:
    return pairs_of(journey, lambda _: None)


def auc_of_asked(journey: Journey, pairs: dict[int, list[Pair]]) -> float:
    auc = ranked_auc(online("logistic", journey.campaigns, pairs, 1)[-len(pairs[ASKED]) :], [pair.redeemed for pair in pairs[ASKED]])
    assert auc is not None
    return auc.value


@pytest.mark.slow
def test_replay_of_shuffled_redemptions_ranks_no_better_than_chance(journey: Journey, pairs: dict[int, list[Pair]]) -> None:
    """Who redeemed is dealt out anew among a campaign's households, in features and outcomes: a score that saw the outcome would tell."""
    assert auc_of_asked(journey, pairs) > 0.7
    chance = random.Random(3)
    dealt = {
        campaign.id: dict(zip(campaign.households, chance.sample(campaign.households, len(campaign.households)), strict=True))
        for campaign in journey.campaigns
    }
    true = journey.redemptions
    try:
        journey.redemptions = [one._replace(household=dealt.get(one.campaign, {}).get(one.household, one.household)) for one in true]
        assert abs(auc_of_asked(journey, pairs_of(journey, lambda _: None)) - 0.5) < 0.08  # 196 redeem: three standard errors are 0.07.
    finally:
        journey.redemptions = true


@pytest.mark.slow
def test_replay_with_other_data_after_a_campaigns_start_scores_the_same(journey: Journey, pairs: dict[int, list[Pair]]) -> None:
    start = next(one.start for one in journey.campaigns if one.id == ASKED)
    assert start == date(2017, 8, 8)
    scores = online("logistic", journey.campaigns, pairs, 1)
    until = journey.eve(next(one for one in journey.campaigns if one.id == ASKED)).until
    assert 0 < until < len(journey.shopper_of)
    altered = reduced()
    for name in altered.lines.keys() - {"transaction_timestamp"}:
        column = altered.lines[name]
        altered.lines[name] = np.concatenate([column[:until], np.flip(column[until:]) + 1])
    altered.shopper_of[until:] = 0
    altered.product_of[until:] = 0
    altered.redemptions = [one for one in altered.redemptions if one.day < start]
    assert len(altered.redemptions) < len(journey.redemptions)
    assert online("logistic", altered.campaigns, pairs_of(altered, lambda _: None), 1) == scores


def test_replay_teaches_a_campaign_only_after_its_end() -> None:
    """The second starts while the first runs, the third the day after it has ended."""
    days = [(date(2017, 1, 1), date(2017, 1, 31)), (date(2017, 1, 31), date(2017, 3, 1)), (date(2017, 2, 1), date(2017, 3, 1))]
    campaigns = [Campaign(number, "Type A", *span, [1], {}) for number, span in enumerate(days)]
    pairs = {number: [Pair(number, {"a": 1.0 + number}, True)] for number in range(3)}
    first, second, third = online("logistic", campaigns, pairs, 1)
    assert first == second < third


def test_replay_reports_every_model_and_baseline_and_misses_the_goal_by_its_champion() -> None:
    chance = random.Random(2)
    campaigns = [Campaign(n, "Type A", date(2017, 1 + 2 * n, 1), date(2017, 2 + 2 * n, 1), list(range(150)), {}) for n in range(3)]
    names = ("goods_lines", "recency_days", "redemption_recency_days")
    pairs = {
        one.id: [Pair(one.id, {name: chance.random() for name in names}, chance.random() < 0.2) for _ in one.households]
        for one in campaigns
    }
    told = replayed(campaigns, pairs, 1, lambda _: None)
    assert len(told) == 8
    everything = [pair for one in campaigns for pair in pairs[one.id]]
    shown = report({name: figures_of(one, everything, 1) for name, one in told.items()}, everything, 1)
    assert not shown.ok
    assert shown.goals[0].wanted == 4.0
    assert len(shown.tables[0].rows) == 8


def test_lift_counts_the_top_tenth_and_shares_ties() -> None:
    outcomes = [True, True, *[False] * 16, True, True]
    assert lift([0.9, 0.8, *[0.1] * 18], outcomes) == 5.0
    assert lift([0.5] * 20, outcomes) == pytest.approx(1.0)
    assert in_top([0.9, *[0.5] * 19], [False, *[True] * 19]) == pytest.approx(1.0)


def test_lift_interval_covers_the_lift() -> None:
    chance = random.Random(4)
    scores = [chance.random() for _ in range(2_000)]
    outcomes = [chance.random() < score**4 for score in scores]
    low, high = lift_interval(scores, outcomes, 1)
    assert low < lift(scores, outcomes) < high
    assert high - low < 2
