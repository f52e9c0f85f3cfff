"""Offers put to members, and what became of them: the events of the topics `triggers` and `outcomes`.

    outcomes   offer.decided      a decision to propose, or, of the control group, not to; with all that it was made by
               offer.shown        the member saw it                          ┐
               offer.clicked      ... and followed it                        │ by shops, tills and channels,
               offer.redeemed     ... and used it                            │ by the decision's id
               offer.bought       goods of the offer, within its window      │ (these two
               offer.returned     ... and brought some of them back          ┘ by ourselves)
    triggers   offer.triggered    what channels, shops and campaign managers get: no features, no score

A decision has one id for ever, made of what led to it, so that an event judged again decides the same. Without an outcome until
`answer_by` it counts as one that came to nothing.
"""

from hashlib import sha256
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from tillstream.schemas.events import check_year, read
from tillstream.schemas.fields import Currency, Identifier, Instant, Label, Natural

OFFERS_SOURCE = "tillstream/offers"
"""`source` of decisions and triggers."""

Probability = Annotated[float, Meta(ge=0, le=1)]
Why = Annotated[str, Meta(max_length=1000)]

Group = Literal["treated", "control"]

Success = Literal["clicked", "redeemed", "bought"]
"""Which outcome makes an offer a success: what a model learns to foresee."""


class Cause(Struct, frozen=True, kw_only=True, gc=False):
    """The event that led to a decision, and in words the condition that it met."""

    source: Identifier
    event_id: Identifier
    type: Identifier
    why: Why


class Judgement(Struct, frozen=True, kw_only=True):
    """What a model said: `score` is the propensity, `exploration` the probability with which a policy chose it; features by name."""

    model: Identifier
    version: Identifier
    score: Probability
    exploration: Probability = 1.0
    features: dict[str, float] = {}


class Choice(Struct, frozen=True, kw_only=True):
    """How chance chose an offer: with `probability`, by the `scores` of all that were drawn from, itself among them.

    `lessons` are the fewest behind any of these scores.
    """

    policy: Literal["bandit"]
    probability: Probability
    lessons: Natural
    scores: dict[str, float]


class Decided(Struct, frozen=True, kw_only=True):
    """The data of `offer.decided`; `consents` are the purposes that were looked up, `judgement` is missing where no model was asked.

    `choice` is there where the offer was drawn from several; its probability is in the judgement's `exploration` already.
    """

    decision_id: Identifier
    offer_id: Identifier
    program_id: Identifier
    program_version: Identifier
    member_id: Identifier
    account_id: Identifier
    channel: Identifier
    group: Group
    cause: Cause
    answer_by: Instant
    success: Success = "bought"
    consents: dict[str, bool] = {}
    judgement: Judgement | None = None
    choice: Choice | None = None


class Worth(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What an offer gives: points of a unit, or minor units of money off, or hundredths of a per cent off."""

    points: Natural = 0
    unit: Identifier = "points"
    amount_off: Natural = 0
    currency: Currency | None = None
    basis_points_off: Annotated[int, Meta(ge=0, le=10_000)] = 0


class Triggered(Struct, frozen=True, kw_only=True):
    """The data of `offer.triggered`; `visitor_id` and `session_id` where a page led to it, `sku` and `category` (globs) its goods.

    `purposes`: what the member had agreed to, and must still agree to when it is delivered.
    """

    decision_id: Identifier
    offer_id: Identifier
    title: Label
    member_id: Identifier
    account_id: Identifier
    channel: Identifier
    worth: Worth
    why: Why
    expires_at: Instant
    sku: list[Label] = []
    category: list[Label] = []
    visitor_id: Identifier | None = None
    session_id: Identifier | None = None
    purposes: list[Identifier] = []


class Outcome(Struct, frozen=True, kw_only=True, gc=False):
    """The data of what became of an offer; `amount` (minor units) and `receipt_id` where goods were bought."""

    decision_id: Identifier
    receipt_id: Identifier | None = None
    amount: Natural | None = None


class BoughtOutcome(Outcome, frozen=True, kw_only=True, gc=False):
    """The data of `offer.bought`: also of which offer, which lines of the receipt were its goods, and what each cost."""

    offer_id: Identifier | None = None
    line_no: list[Natural] = []
    line_amount: list[Natural] = []


class OfferEnvelope(Struct, frozen=True, kw_only=True, gc=False, tag_field="type"):
    """The attributes of a CloudEvent; `time` is when it happened."""

    specversion: Literal["1.0"]
    id: Identifier
    source: Identifier
    time: Instant


class DecidedEvent(OfferEnvelope, frozen=True, kw_only=True, gc=False, tag="offer.decided"):
    data: Decided


class ShownEvent(OfferEnvelope, frozen=True, kw_only=True, gc=False, tag="offer.shown"):
    data: Outcome


class ClickedEvent(OfferEnvelope, frozen=True, kw_only=True, gc=False, tag="offer.clicked"):
    data: Outcome


class RedeemedEvent(OfferEnvelope, frozen=True, kw_only=True, gc=False, tag="offer.redeemed"):
    data: Outcome


class BoughtEvent(OfferEnvelope, frozen=True, kw_only=True, gc=False, tag="offer.bought"):
    data: BoughtOutcome


class ReturnedEvent(OfferEnvelope, frozen=True, kw_only=True, gc=False, tag="offer.returned"):
    """What of a receipt's goods came back: `receipt_id` is the sale's, `amount` what came back, minor units."""

    data: Outcome


class TriggeredEvent(OfferEnvelope, frozen=True, kw_only=True, gc=False, tag="offer.triggered"):
    data: Triggered


OutcomeEvent = DecidedEvent | ShownEvent | ClickedEvent | RedeemedEvent | BoughtEvent | ReturnedEvent
"""What stands on the topic `outcomes`."""

_Kind = TypeVar("_Kind", bound=OfferEnvelope)

_outcomes = msgspec.json.Decoder(OutcomeEvent)
_triggers = msgspec.json.Decoder(TriggeredEvent)


def decision_id(offer_id: str, member_id: str, source: str, event_id: str) -> str:
    """The id of the decision on an offer for a member that an event led to: the first half of SHA-256 of all four.

    >>> decision_id("cheese", "m1", "shop", "e-1")
    '6c63b626a957ddbec8927156a8b477bd'
    """
    return sha256("\0".join((offer_id, member_id, source, event_id)).encode()).hexdigest()[:32]


def decode_outcome(raw: bytes) -> OutcomeEvent:
    """The typed event of the topic `outcomes` in `raw`.

    Raises:
        Malformed: the bytes are no such event; `path` is as precise as the fault allows, `$` for the whole.
    """
    event: OutcomeEvent = decoded(_outcomes, raw)
    return event


def decode_trigger(raw: bytes) -> TriggeredEvent:
    """The typed event of the topic `triggers` in `raw`; raises `Malformed` as `decode_outcome` does."""
    return decoded(_triggers, raw)


def decoded(decoder: msgspec.json.Decoder[_Kind], raw: bytes) -> _Kind:
    """What `decoder` reads in `raw`; raises `Malformed`."""
    event = read(decoder.decode, raw)
    check_year("$.time", event.time)
    return event
