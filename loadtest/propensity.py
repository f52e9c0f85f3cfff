"""`propensity`: who will redeem a coupon? The Complete Journey's 27 campaigns, replayed in the order of time (journey.py).

In: nothing but the data set. Out: per model, over all 6,589 (campaign, household) pairs: AUC with its interval, log loss, and the lift in
the top tenth, that is how many times as many redeem there as in all. On the eve of each campaign every household that it was sent to is
scored; models are taught what a campaign came to on the eve of the first one that starts after its end, once, in an order of households
drawn from a seed. The batch models of scikit-learn are trained anew for each campaign, on the same. Before there is anything to learn from
they say `PRIOR`, as the online models do.

Lift is told twice. *Pooled*: the tenth of all pairs with the highest scores, of whatever campaign, which asks of a model to know good
campaigns from bad ones, too. *Within*: the best tenth of each campaign's households, added up.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from loadtest.contender import VoidRunError
from loadtest.journey import Campaign, Journey
from loadtest.lifting import TOP, in_top, lift, lift_interval, top_of
from loadtest.propensity_batch import BATCH
from loadtest.report import Goal, Report, TableOf
from tillstream.models.learning import MODELS
from tillstream.models.propensity import CERTAIN, PIPELINES, PRIOR, untaught
from tillstream.models.validation import loss, ranked_auc

LIFT_WANTED = 4.0

SEED = 1
"""Of the order in which households are taught, and of the resampling."""

Features = dict[str, float]

RANKINGS: dict[str, Callable[[Features], float]] = {
    "popularity: lines of the goods bought": lambda known: known["goods_lines"],
    "recency of the latest purchase": lambda known: -known["recency_days"],
    "last redeemers: most recent first": lambda known: -known["redemption_recency_days"],
}
"""Baselines that learn nothing: they only rank, by one feature."""


class Pair(NamedTuple):
    """A campaign and a household that it was sent to, what was known on its eve, and whether the household redeemed."""

    campaign: int
    features: Features
    redeemed: bool


class Told(NamedTuple):
    """What one model came to; `scores` in the order of the pairs."""

    scores: list[float]
    probabilities: bool


def pairs_of(journey: Journey, progress: Callable[[str], None]) -> dict[int, list[Pair]]:
    """By campaign, in the order of their start."""
    found: dict[int, list[Pair]] = {}
    for campaign in journey.campaigns:
        eve, redeemers = journey.eve(campaign), journey.redeemers(campaign)
        found[campaign.id] = [Pair(campaign.id, eve.features(household), household in redeemers) for household in campaign.households]
        progress(f"campaign {campaign.id:>2}, from {campaign.start}: {len(campaign.households):>5} households, {len(redeemers):>3} redeem")
    return found


def lessons(pairs: dict[int, list[Pair]], ended: Sequence[Campaign], seed: int) -> list[Pair]:
    """What there is to learn of campaigns that have ended, in the order of their ends."""
    found: list[Pair] = []
    for campaign in sorted(ended, key=lambda one: (one.end, one.id)):
        found += random.Random(seed * 1_000 + campaign.id).sample(pairs[campaign.id], len(pairs[campaign.id]))
    return found


def online(name: str, campaigns: Sequence[Campaign], pairs: dict[int, list[Pair]], seed: int) -> list[float]:
    """Scores of a model that is taught each campaign once."""
    model, known, scores = untaught(name), set(), []
    for campaign in campaigns:
        news = [one for one in campaigns if one.end < campaign.start and one.id not in known]
        for pair in lessons(pairs, news, seed):
            model.learn(pair.features, pair.redeemed)
        known |= {one.id for one in news}
        scores += [model.score(pair.features) for pair in pairs[campaign.id]]
    return scores


def batch(name: str, campaigns: Sequence[Campaign], pairs: dict[int, list[Pair]], seed: int) -> list[float]:
    """Scores of a model that is trained anew for each campaign."""
    scores: list[float] = []
    for campaign in campaigns:
        known = lessons(pairs, [one for one in campaigns if one.end < campaign.start], seed)
        asked = [pair.features for pair in pairs[campaign.id]]
        if sum(pair.redeemed for pair in known) < 2:
            scores += [PRIOR] * len(asked)
        else:
            said = BATCH[name]([pair.features for pair in known], [pair.redeemed for pair in known], asked)
            scores += [min(1 - CERTAIN, max(CERTAIN, score)) for score in said]
    return scores


def figures_of(told: Told, everything: Sequence[Pair], seed: int) -> dict[str, Any]:
    """AUC, log loss (of probabilities), lift pooled and within campaigns; raises VoidRunError."""
    scores, outcomes = told.scores, [pair.redeemed for pair in everything]
    by_campaign: dict[int, list[int]] = {}
    for place, pair in enumerate(everything):
        by_campaign.setdefault(pair.campaign, []).append(place)
    picked = [([scores[place] for place in places], [outcomes[place] for place in places]) for places in by_campaign.values()]
    expected = sum(top_of(some) for some, _ in picked) * sum(outcomes) / len(outcomes)
    auc = ranked_auc(scores, outcomes)
    if auc is None:
        raise VoidRunError("nobody redeemed, or everybody: there is nothing to rank")
    low, high = lift_interval(scores, outcomes, seed)
    return {
        "auc": round(auc.value, 4), "auc_low": round(auc.low, 4), "auc_high": round(auc.high, 4),
        "log_loss": round(sum(map(loss, scores, outcomes)) / len(scores), 4) if told.probabilities else None,
        "lift_pooled": round(lift(scores, outcomes), 3), "lift_pooled_low": round(low, 3), "lift_pooled_high": round(high, 3),
        "lift_within": round(sum(in_top(*some) for some in picked) / expected, 3),
    }  # fmt: skip


def replayed(campaigns: Sequence[Campaign], pairs: dict[int, list[Pair]], seed: int, progress: Callable[[str], None]) -> dict[str, Told]:
    """What every model says, by name: online, batch, rankings."""
    told: dict[str, Told] = {}
    for name in PIPELINES:
        told[f"online: {name}"] = Told(online(name, campaigns, pairs, seed), probabilities=True)
        progress(f"online: {name}")
    for name in BATCH:
        told[f"batch: {name}"] = Told(batch(name, campaigns, pairs, seed), probabilities=True)
        progress(f"batch: {name}")
    everything = [pair for campaign in campaigns for pair in pairs[campaign.id]]
    for name, rank in RANKINGS.items():
        told[name] = Told([rank(pair.features) for pair in everything], probabilities=False)
    return told


def run(seed: int, progress: Callable[[str], None]) -> Report:
    """The whole replay; some minutes.

    Raises:
        DatasetMissing: the data set is not installed.
    """
    journey = Journey()
    pairs = pairs_of(journey, progress)
    everything = [pair for campaign in journey.campaigns for pair in pairs[campaign.id]]
    told = replayed(journey.campaigns, pairs, seed, progress)
    return report({name: figures_of(one, everything, seed) for name, one in told.items()}, everything, seed)


def report(figures: dict[str, dict[str, Any]], everything: Sequence[Pair], seed: int) -> Report:
    """The table, and the goal: that of the model that offers start with."""
    champion = f"online: {MODELS[0]}"
    rows = [
        [
            name, f"{one['auc']:.3f} ({one['auc_low']:.3f} to {one['auc_high']:.3f})",
            "" if one["log_loss"] is None else f"{one['log_loss']:.4f}",
            f"{one['lift_pooled']:.2f} ({one['lift_pooled_low']:.2f} to {one['lift_pooled_high']:.2f})", f"{one['lift_within']:.2f}",
        ]
        for name, one in figures.items()
    ]  # fmt: skip
    redeemed = sum(pair.redeemed for pair in everything)
    notes = [
        f"{redeemed:,} of {len(everything):,} pairs redeem: a lift of {len(everything) / redeemed:.1f} would be perfect",
        "scored on the eve of a campaign, taught after its end, once",
        "AUC over all pairs; intervals at 95 %, by DeLong, of lift by resampling pairs",
        "pooled: the top tenth of all pairs; within: of each campaign, added up",
        "84.51° (2015), The Complete Journey [Dataset concept]: simulated data, for educational and exploratory purposes",
    ]
    columns = ["model", "AUC", "log loss", "lift, pooled", "lift, within"]
    goals = [Goal(f"lift in the top {TOP:.0%}, pooled, {champion}", LIFT_WANTED, figures[champion]["lift_pooled"])]
    asked = {"seed": seed, "pairs": len(everything), "redeemed": redeemed}
    return Report("propensity", asked, figures, goals, [TableOf("Who redeems a coupon", columns, rows)], notes)
