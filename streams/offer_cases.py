"""What the decision on offers looks at: an event, the member who did it, and what Redis knows of both."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from tillstream.kernels.instants import instant_ms, ms_of
from tillstream.kernels.offer_occasions import Happened, Match
from tillstream.kernels.offering import Made, Person
from tillstream.kernels.registry import Registry
from tillstream.schemas.member_state import Profile
from tillstream.schemas.program_offers import Offer, OfferGoods
from tillstream.sinks.offers import Looked, Seen, event_key

Featured = Callable[[OfferGoods, datetime], dict[str, float]]
"""The features of a case, by an offer's goods and the event's time on the member's clock."""


class Case(NamedTuple):
    """An event, and the enrolled member that did it, under the account where it counts; `featured` is None where nothing may be known."""

    happened: Happened
    member_id: str
    account_id: str
    featured: Featured | None = None


class Asked(NamedTuple):
    """A case, and the offers whose triggers agree."""

    case: Case
    found: list[Match]

    @property
    def scored(self) -> bool:
        """Whether a model may be asked about it."""
        return self.case.featured is not None and any(match.placed.offer.model is not None for match in self.found)


class Ready(NamedTuple):
    """A case with the offers whose triggers were met, and who the member is."""

    case: Case
    met: list[Match]
    person: Person
    made: Mapping[str, Made]


def case_key(case: Case) -> str:
    """What tells an event from all others."""
    return event_key(case.happened.source, case.happened.event_id)


def seen(case: Case, offer: Offer) -> Seen:
    """An event of a visitor, as the offer counts it."""
    back_ms = ms_of(timedelta(minutes=offer.trigger.minutes or 0))
    return Seen(case.happened.visitor_id or "", offer.id, case_key(case), instant_ms(case.happened.at), back_ms)


def unmet_of(counted: Sequence[tuple[Case, Match]], firsts: Sequence[tuple[Case, Match]], looked: Looked) -> set[tuple[str, str]]:
    """The events and offers of which not enough was seen, or which are not the first."""
    short = [
        (case, match) for (case, match), count in zip(counted, looked.counts, strict=True) if count < match.placed.offer.trigger.count
    ]
    later = [(case, match) for (case, match), first in zip(firsts, looked.firsts, strict=True) if not first]
    return {(case_key(case), match.placed.offer.id) for case, match in [*short, *later]}


def person_of(case: Case, registry: Registry, tier: str) -> Person:
    """The member as offers look at it, by all that is known now: a consent that was withdrawn since is withdrawn."""
    said = [fact.value for fact in registry.members.get(case.member_id, ()) if fact.kind == "enrolled"]
    enrolled = said[-1] if said else {}
    attributes = enrolled.get("attributes", {})
    listed = attributes.get("segments", [])
    profile = Profile(
        enrolled.get("kind", "consumer"),
        [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else [],
        {name: value for name, value in attributes.items() if isinstance(value, str | int)},
    )
    return Person(case.member_id, case.account_id, tier, profile, registry.consents_of(case.member_id))
