"""What member events say, one fact an event: the set of a member's facts is all that is known of it, whatever order they came in.

    order   instant in microseconds since 1970 (16 digits), a space, the event's natural key (32 digits): sorts as (instant, key)
    kind    enrolled | identity_added | household | merged | unmerged | consents | segments | erased
    value   JSON; of identities there are hashes only

A fact is kept with its member (of a merge, with the one that was merged). `index` tells what else must be found by other ways: members by
identity hash, and who is tied to whom. An erasure forgets the facts before it, all but merges, which name accounts only.
"""

from bisect import insort
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import msgspec

from tillstream.kernels.identities import hash_in
from tillstream.kernels.keys import key_of
from tillstream.schemas.events import (
    ConsentEvent,
    EnrolledEvent,
    ErasedEvent,
    HouseholdEvent,
    IdentityAddedEvent,
    MemberEvent,
    MergedEvent,
    SegmentsEvent,
    UnmergedEvent,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INSTANT_DIGITS = 16
ALL_KEYS = "~"
"""Sorts behind every natural key."""

KEPT = ("merged", "unmerged", "erased")
"""Kinds that an erasure leaves."""

Noted = Literal["added", "same", "other", "forgotten"]
"""What became of a fact: new; known; of an event that is known with other data, so that the first stands; before an erasure."""

_encode = msgspec.json.Encoder(order="sorted").encode


class Fact(NamedTuple):
    """What one member event says of one subject; see the module."""

    order: str
    kind: str
    value: Any

    @property
    def key(self) -> str:
        """The natural key of the event that said it."""
        return self.order[INSTANT_DIGITS + 1 :]

    @property
    def line(self) -> str:
        """As it is stored: one line of text."""
        return f"{self.order} {self.kind} {_encode(self.value).decode()}"


class Indexed(NamedTuple):
    """A fact in an index: `identities` by identity hash, `ties` by member id."""

    name: Literal["identities", "ties"]
    subject: str
    fact: Fact


def fact_in(line: str) -> Fact:
    """The fact that a line holds.

    >>> fact_in(Fact("0000000000000001 " + "0" * 32, "household", "h 1").line).value
    'h 1'
    """
    instant, key, kind, value = line.split(" ", 3)
    return Fact(f"{instant} {key}", kind, msgspec.json.decode(value))


def limit(moment: datetime) -> str:
    """Sorts behind every fact up to and at `moment`, before all later ones."""
    return f"{(moment - EPOCH) // timedelta(microseconds=1):0{INSTANT_DIGITS}} {ALL_KEYS}"


def subject_of(event: MemberEvent) -> str:
    """The member that an event is kept with; also its key on the topic `members`."""
    return event.data.from_ if isinstance(event, MergedEvent | UnmergedEvent) else event.data.member_id


def fact_of(event: MemberEvent) -> Fact:
    """What a sealed event says; a `member` identity needs no index, since it is the member id itself."""
    order = limit(event.time).removesuffix(ALL_KEYS) + key_of(event)
    if isinstance(event, EnrolledEvent):
        said = msgspec.to_builtins(event.data)
        hashes = [hash_in(identity) for identity in event.data.identities if identity.scheme != "member"]
        return Fact(order, "enrolled", {**said, "identities": hashes})
    if isinstance(event, IdentityAddedEvent):
        identity = event.data.identity
        return Fact(order, "identity_added", {"identities": [] if identity.scheme == "member" else [hash_in(identity)]})
    if isinstance(event, HouseholdEvent):
        return Fact(order, "household", event.data.household_id)
    if isinstance(event, ConsentEvent):
        return Fact(order, "consents", dict(event.data.consents))
    if isinstance(event, SegmentsEvent):
        said = msgspec.to_builtins(event.data)
        return Fact(order, "segments", {name: said[name] for name in said if name != "member_id"})
    if isinstance(event, ErasedEvent):
        return Fact(order, "erased", None)
    return Fact(order, "merged" if isinstance(event, MergedEvent) else "unmerged", event.data.into)


def index(member: str, fact: Fact) -> Iterator[Indexed]:
    """Where else a member's fact is to be found."""
    if fact.kind in {"enrolled", "identity_added"}:
        for digest in dict.fromkeys(fact.value["identities"]):
            yield Indexed("identities", digest, Fact(fact.order, "member", member))
        if fact.value.get("household_id") is not None:
            yield Indexed("ties", member, Fact(fact.order, "household", fact.value["household_id"]))
    elif fact.kind == "household":
        yield Indexed("ties", member, fact)
    elif fact.kind in {"merged", "unmerged"}:
        yield Indexed("ties", member, fact)
        if fact.value != member:
            yield Indexed("ties", fact.value, Fact(fact.order, "named", member))


def note(facts: list[Fact], fact: Fact) -> Noted:
    """Adds a fact to those of its subject, which stay in order; the first of an event stands."""
    for known in facts:
        if known.key == fact.key:
            return "same" if known == fact else "other"
    if fact.kind not in KEPT and any(known.kind == "erased" and fact.order < known.order for known in facts):
        return "forgotten"
    insort(facts, fact, key=lambda item: item.order)
    return "added"


def erasable(facts: list[Fact]) -> list[Fact]:
    """Of a member's facts those that its latest erasure forgets."""
    erased = max((fact.order for fact in facts if fact.kind == "erased"), default="")
    return [fact for fact in facts if fact.order < erased and fact.kind not in KEPT]
