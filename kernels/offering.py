"""Which offer is made to a member on an occasion, or why none is (docs/offers.md).

In: the offers in force on the event's local date; the occasion; who the member is; what models said; the member's decisions so far.
Out: the offers that fit, best first, and for each of the others the first reason against it, in the order of `Reason`. A budget is asked
for last, by whoever takes it (sinks/offers.py).

    order       score, highest first (of an offer without a model: 0), then `priority`, then position in the program
    control     the first 8 bytes of SHA-256("control", offer id, member id) are below `control` per cent of 2^64: for ever
    exploring   SHA-256("explore", decision id), likewise, below `explore` per cent: what `min_score` would refuse is tried nevertheless

Instants are milliseconds since 1970.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import repeat
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from tillstream.kernels.globs import matches_glob
from tillstream.kernels.instants import instant_ms, ms_of
from tillstream.kernels.terms import has
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.member_state import Profile
from tillstream.schemas.offers import Judgement, Worth, decision_id
from tillstream.schemas.program_offers import BASIS_POINTS, Frequency, Offer, OfferGoods, purposes
from tillstream.schemas.program_parts import Who

Reason = Literal[
    "too_old",
    "bought_meanwhile",
    "unknown_member",
    "outside_dates",
    "not_in_audience",
    "no_consent_marketing",
    "no_consent_personalised",
    "no_consent_profiling",
    "already_has",
    "cool_down",
    "cap_member",
    "cap_channel",
    "no_model",
    "below_min_score",
    "budget_spent",
    "another_first",
]
"""Why an offer was not made: the first that holds. `another_first`: nothing spoke against it, but another one was before it."""

ZONE = "time_zone"
"""The attribute of an enrolment that says where a member's days begin."""

NO_VERSION = "none"
"""The version in a judgement where there is no model yet."""

SHARE = 2**64

MADE_MAX = 500
"""Decisions that are kept of one member, in a quarter: nobody is meant to be asked more than five times a day."""


class Made(NamedTuple):
    """A decision as it is kept with its member; `group` and the end of its validity (`ends_ms`) are what caps and the like look at."""

    offer_id: str
    decision_id: str
    channel: str
    group: str
    at_ms: int
    ends_ms: int
    answer_ms: int
    version: str


class Placed(NamedTuple):
    """An offer and where it stands: its program, that one's version, its place among all offers in force."""

    offer: Offer
    program_id: str
    version: str
    place: int


class Person(NamedTuple):
    """A member as offers look at it: by the registry and the account's state, as of now."""

    member_id: str
    account_id: str
    tier: str
    profile: Profile
    consents: Mapping[str, Any]


class Occasioned(NamedTuple):
    """What happened, of which event, when; and in words what each offer's trigger found in it (offer id -> words)."""

    source: str
    event_id: str
    at: datetime
    why: Mapping[str, str]


class Candidate(NamedTuple):
    """An offer that fits; the decision that it would be, and from when on its caps count (milliseconds; None: it has none)."""

    placed: Placed
    made: Made
    judgement: Judgement | None
    member_from_ms: int | None
    channel_from_ms: int | None


class Verdict(NamedTuple):
    """The offers that fit, best first, and the reasons against the others, by offer id."""

    fit: list[Candidate]
    against: dict[str, Reason]


def offers_in_force(timetable: Timetable, day: date) -> list[Placed]:
    """The offers of all programs in force on a local date, in the order of (program id, position)."""
    found = [(offer, version) for version in timetable.in_force(day) for offer in version.program.offers]
    return [Placed(offer, version.program.program.id, version.version, place) for place, (offer, version) in enumerate(found)]


def verdict(
    offers: Sequence[Placed],
    zone: ZoneInfo,
    occasion: Occasioned,
    person: Person,
    judge: Callable[[Offer], Judgement | None],
    decisions: Iterable[Made],
) -> Verdict:
    """What to do about `offers`, whose triggers were met; `zone` is the programs'. `judge` says what a model thinks of an offer, None where
    there is none to ask; it is asked of offers only that nothing else speaks against.
    """
    fit: list[Candidate] = []
    against: dict[str, Reason] = {}
    made, day = list(decisions), occasion.at.astimezone(zone).date()
    for placed in offers:
        reason = _not_for(placed.offer, day, person)
        if reason is None:
            candidate = _candidate(placed, zone, occasion, person)
            reason = no_room(candidate, placed.offer, made)
        if reason is None:
            asked = judge(placed.offer)
            candidate = candidate._replace(judgement=judged(placed.offer, candidate.made.decision_id, asked))
            reason = _too_low(candidate, asked)
        if reason is None:
            fit.append(candidate)
        else:
            against[placed.offer.id] = reason
    return Verdict(sorted(fit, key=_order), against)


def _order(candidate: Candidate) -> tuple[float, int, int]:
    score = 0.0 if candidate.judgement is None else candidate.judgement.score
    return -score, candidate.placed.offer.priority, candidate.placed.place


def _not_for(offer: Offer, day: date, person: Person) -> Reason | None:
    if (offer.from_ and day < offer.from_) or (offer.to and day > offer.to):
        return "outside_dates"
    if not is_in(offer.audience, person):
        return "not_in_audience"
    return next((_NO_CONSENT[purpose] for purpose in purposes(offer) if person.consents.get(purpose) is not True), None)


def _too_low(candidate: Candidate, asked: Judgement | None) -> Reason | None:
    if candidate.placed.offer.min_score is None or candidate.judgement is not None:
        return None
    return "no_model" if asked is None or asked.version == NO_VERSION else "below_min_score"


_NO_CONSENT: Mapping[str, Reason] = {
    "marketing": "no_consent_marketing",
    "personalised": "no_consent_personalised",
    "profiling": "no_consent_profiling",
}


def no_room(candidate: Candidate, offer: Offer, made: Iterable[Made]) -> Reason | None:
    """Which of the member's own decisions stands against another; state.lua's `reserve_offer` says the same, at the moment of taking.

    Of an offer its decisions count, also those of the control group, which so is asked as often; of a channel those that went out by it.
    """
    made = list(made)
    at, own = candidate.made.at_ms, [item for item in made if item.offer_id == offer.id]
    if any(item.ends_ms > at for item in own):
        return "already_has"
    if offer.cool_down is not None and any(item.at_ms + ms_of(offer.cool_down.length) > at for item in own):
        return "cool_down"
    member, channel = offer.cap.per_member, offer.cap.per_channel
    if member is not None and sum(item.at_ms >= (candidate.member_from_ms or 0) for item in own) >= member.max:
        return "cap_member"
    if len(made) >= MADE_MAX:
        return "cap_member"
    if channel is not None:
        sent = [item for item in made if item.channel == offer.channel and item.group == "treated"]
        if sum(item.at_ms >= (candidate.channel_from_ms or 0) for item in sent) >= channel.max:
            return "cap_channel"
    return None


def _candidate(placed: Placed, zone: ZoneInfo, occasion: Occasioned, person: Person) -> Candidate:
    offer = placed.offer
    name = decision_id(offer.id, person.member_id, occasion.source, occasion.event_id)
    here = member_zone(person.profile, zone)
    made = Made(
        offer_id=offer.id,
        decision_id=name,
        channel=offer.channel,
        group="control" if is_control(offer, person.member_id) else "treated",
        at_ms=instant_ms(occasion.at),
        ends_ms=instant_ms(ends(offer, occasion.at, zone)),
        answer_ms=instant_ms(occasion.at) + offer.answer.days * 86_400_000,
        version=placed.version,
    )
    since = (counted_from(offer.cap.per_member, occasion.at, here), counted_from(offer.cap.per_channel, occasion.at, here))
    return Candidate(placed, made, None, *since)


def judged(offer: Offer, decision: str, asked: Judgement | None) -> Judgement | None:
    """What is recorded of a model's answer; None: it keeps the offer from being made, or nobody was asked.

    Below `min_score`, or without a model, chance of a known probability lets some through.
    """
    if asked is None or offer.min_score is None:
        return asked
    if asked.version != NO_VERSION and asked.score >= float(offer.min_score):
        return asked
    if share_of("explore", decision) * 100 < offer.explore * SHARE:
        return msgspec.structs.replace(asked, exploration=offer.explore / 100)
    return None


def is_control(offer: Offer, member_id: str) -> bool:
    """Whether a member is in an offer's control group; of two offers independently, of all versions of a program alike."""
    return share_of("control", offer.id, member_id) * 100 < offer.control * SHARE


def share_of(*words: str) -> int:
    """A number below 2^64 that follows from `words` as if drawn evenly."""
    return int.from_bytes(sha256("\0".join(words).encode()).digest()[:8])


def is_in(audience: Who, person: Person) -> bool:
    """Whether a member is one of those that an offer is for."""
    profile = person.profile
    return (
        (audience.tier is None or person.tier in audience.tier)
        and (audience.segment is None or not set(audience.segment).isdisjoint(profile.segments))
        and (audience.kind is None or profile.kind in audience.kind)
        and all(has(profile, name, values) for name, values in (audience.attributes or {}).items())
    )


@lru_cache(1_024)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def member_zone(profile: Profile, otherwise: ZoneInfo) -> ZoneInfo:
    """Where the member's days begin: by the attribute `time_zone`, else, or where there is no such zone, by the program."""
    name = profile.attributes.get(ZONE)
    return (_zone(name) if isinstance(name, str) else None) or otherwise


def counted_from(frequency: Frequency | None, at: datetime, zone: ZoneInfo) -> int | None:
    """The beginning of the first calendar day that a cap looks at, in milliseconds; None: there is no cap.

    A day that a change of clocks shortens or lengthens counts as one.
    """
    if frequency is None:
        return None
    return _begins(at.astimezone(zone).date() - timedelta(days=frequency.days - 1), zone)


@lru_cache(1_024)
def _begins(day: date, zone: ZoneInfo) -> int:
    return instant_ms(datetime(day.year, day.month, day.day, tzinfo=zone))


def ends(offer: Offer, at: datetime, zone: ZoneInfo) -> datetime:
    """Until when what is decided `at` may be used: for `valid_for`, and no longer than its last day."""
    until = at + offer.valid_for.length
    if offer.to is None:
        return until
    after = offer.to + timedelta(days=1)
    return min(until, datetime(after.year, after.month, after.day, tzinfo=zone))


def fits(goods: OfferGoods, sku: str, category: str | None) -> bool:
    """Whether an article is among some goods: every key that is given matches."""
    by_sku = goods.sku is None or any(map(matches_glob, goods.sku, repeat(sku)))
    if not by_sku or goods.category is None:
        return by_sku
    return category is not None and any(map(matches_glob, goods.category, repeat(category)))


def worth_of(offer: Offer, currency: str) -> Worth:
    """What an offer gives, as its trigger says it."""
    worth = offer.worth
    if worth.points is not None:
        return Worth(points=worth.points, unit=worth.unit)
    if worth.amount_off is not None:
        return Worth(amount_off=worth.amount_off, currency=currency)
    return Worth(basis_points_off=int((worth.percent_off or 0) * BASIS_POINTS))
