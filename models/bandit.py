"""Which of several offers is put to a member: mostly the one with the best score, and every other one with a probability that is known.

Inverse-gap weighting (Foster and Rakhlin, Beyond UCB, ICML 2020): of K offers, each that is not the best is taken with

    p = 1 / (K + gamma · (best score - its score)),     gamma = SHARPNESS · sqrt(K · outcomes)

and the best with the rest. The more outcomes the models have learned from, the more the best is trusted. Thompson sampling would do as
well, but its probabilities have no closed form, and without them nobody can say afterwards what another way of choosing would have brought
(inverse propensity scores).

Chance is made of the decision's id, so that a decision that is taken again is the same.
"""

from collections.abc import Mapping
from hashlib import sha256
from math import sqrt
from typing import NamedTuple

SHARPNESS = 4.0
"""At 2,500 outcomes and three offers, one whose score is 0.05 below the best gets 5 % of the decisions."""


class Choice(NamedTuple):
    """What was chosen, and how probable that was: `exploration` of schemas/offers.py."""

    offer_id: str
    probability: float


class NothingToChoose(ValueError):
    """There is no offer to choose from."""

    def __init__(self) -> None:
        super().__init__("`scores` is empty: give at least one offer with its score")


def probabilities(scores: Mapping[str, float], outcomes: int) -> dict[str, float]:
    """The probability of each offer, by its id; they sum to 1. `outcomes`: what the models behind the scores have learned from, 0 or more.

    >>> probabilities({"a": 0.3, "b": 0.3}, 1000)
    {'a': 0.5, 'b': 0.5}

    Raises:
        NothingToChoose: no scores.
    """
    if not scores:
        raise NothingToChoose
    best = max(sorted(scores), key=lambda offer_id: scores[offer_id])
    gamma = SHARPNESS * sqrt(len(scores) * outcomes)
    shares = {offer_id: 1 / (len(scores) + gamma * (scores[best] - scores[offer_id])) for offer_id in sorted(scores) if offer_id != best}
    shares[best] = 1 - sum(shares.values())
    return dict(sorted(shares.items()))


def choose(decision: str, scores: Mapping[str, float], outcomes: int) -> Choice:
    """One of the offers, by their probabilities; the same for the same decision, scores and number of outcomes.

    Raises:
        NothingToChoose: no scores.
    """
    shares = probabilities(scores, outcomes)
    # 53 bits, as a float has them: below 1, always.
    left = (int.from_bytes(sha256(f"choose\0{decision}".encode()).digest()[:8]) >> 11) / 2**53
    for offer_id, share in shares.items():
        if left < share:
            return Choice(offer_id, share)
        left -= share
    return Choice(offer_id, share)  # What rounding left over falls to the last.
