"""Who is who: from the set of member events, in whatever order they came, to accounts (docs/adr/0011).

In: facts (facts.py), all of them or those about the subjects in question. Out, for an identity at an instant:

(1) the member: of a `member` identity itself; otherwise the one that enrolled the identity last by (instant, key) up to that instant, or,
    before its first enrolment, the first one, which takes over what it earned as nobody's;
(2) its root: the member that it is merged into at that instant, and so on; a merge that closes a cycle does not count;
(3) the account: that of the root's household at that instant, otherwise the root's own.

An account has a *group*, by all that is known: what was merged into its root and the provisional accounts of their identities. What a
member has is the sum of its group (holdings.py, `sum_of`); merging and taking over move no points.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import structs

from tillstream.kernels.facts import Fact, Noted, erasable, fact_of, index, limit, note, subject_of
from tillstream.kernels.identities import PROVISIONAL, hash_in
from tillstream.schemas.events import Malformed, MemberEvent, MergedEvent, ProfileEvent, SegmentsEvent, TransferEvent
from tillstream.schemas.members import Enrolled
from tillstream.schemas.receipts import Identity

Facts = dict[str, list[Fact]]
"""By subject, each in order."""


class Merges(NamedTuple):
    """Who is merged into whom, and the orders of the merges that did not count since they would have closed a cycle."""

    into: Mapping[str, str]
    refused: frozenset[str]


class Registry:
    """Members by their facts; `identities` and `ties` are indexes of `members` (facts.py). Events and identities come sealed."""

    def __init__(self) -> None:
        self.members: Facts = {}
        self.identities: Facts = {}
        self.ties: Facts = {}
        self._merging: list[tuple[str, str, str, str]] | None = None

    def take(self, event: MemberEvent) -> Noted:
        """Adds what an event says."""
        return self.add(subject_of(event), fact_of(event))

    def add(self, member: str, fact: Fact) -> Noted:
        """Adds a member's fact, here and in the indexes; an erasure forgets what was before it."""
        facts = self.members.setdefault(member, [])
        noted = note(facts, fact)
        if noted == "added":
            self._merging = None
            for entry in index(member, fact):
                note(self._index(entry.name).setdefault(entry.subject, []), entry.fact)
            for forgotten in erasable(facts):
                facts.remove(forgotten)
                for entry in index(member, forgotten):
                    self._index(entry.name)[entry.subject].remove(entry.fact)
        return noted

    def _index(self, name: str) -> Facts:
        return self.identities if name == "identities" else self.ties

    def account_at(self, identity: Identity, moment: datetime) -> str:
        """The account to which what this identity does at `moment` belongs."""
        until = limit(moment)
        member = self.member_at(identity, until)
        if member is None:
            return PROVISIONAL + hash_in(identity)
        root = root_of(member, self.merges(until).into)
        return self.household_at(root, until) or root

    def transfer_of(self, event: TransferEvent) -> tuple[str, str | None]:
        """The accounts between which points are to move: the giver's own, and the receiver's own or that of the household itself.

        The receiver is None where the two are neither one person nor of one household then.
        """
        until = limit(event.time)
        into = self.merges(until).into
        giver, receiver = (self._own_account(identity, until, into) for identity in (event.data.member, event.data.to))
        household = self.household_at(giver, until)
        together = giver == receiver or (household is not None and household in (receiver, self.household_at(receiver, until)))
        return giver, receiver if together else None

    def _own_account(self, identity: Identity, until: str, into: Mapping[str, str]) -> str:
        member = self.member_at(identity, until)
        return PROVISIONAL + hash_in(identity) if member is None else root_of(member, into)

    def member_at(self, identity: Identity, until: str) -> str | None:
        """The member of an identity; None: nobody enrolled it."""
        if identity.scheme == "member":
            return identity.value
        return member_among(self.identities.get(hash_in(identity), ()), until)

    def household_at(self, member: str, until: str) -> str | None:
        """The household that a member says it belongs to; None: none."""
        said = [fact.value for fact in self.ties.get(member, ()) if fact.kind == "household" and fact.order <= until]
        household: str | None = said[-1] if said else None
        return household

    def merges(self, until: str | None = None) -> Merges:
        """The merges up to some order, or all: the latest of a member counts, an unmerge takes back the merge that it names."""
        if self._merging is None:
            self._merging = sorted(
                (fact.order, member, fact.kind, fact.value)
                for member, facts in self.ties.items()
                for fact in facts
                if fact.kind in {"merged", "unmerged"}
            )
        into: dict[str, str] = {}
        refused = set()
        for order, member, kind, target in self._merging:
            if until is not None and order > until:
                break
            if kind == "unmerged":
                if into.get(member) == target:
                    del into[member]
                continue
            before = into.pop(member, None)
            if root_of(target, into) != member:
                into[member] = target
                continue
            refused.add(order)
            if before is not None:
                into[member] = before
        return Merges(into, frozenset(refused))

    def groups(self) -> dict[str, list[str]]:
        """The groups of more than one account, by each of their accounts: the root first, merged members, provisional accounts."""
        into = self.merges().into
        found: dict[str, list[str]] = {}
        for member in sorted(into):
            found.setdefault(root_of(member, into), []).append(member)
        for digest, links in sorted(self.identities.items()):
            if links:
                found.setdefault(root_of(links[0].value, into), []).append(PROVISIONAL + digest)
        return {account: [root, *others] for root, others in found.items() for account in (root, *others)}

    def group_of(self, account: str) -> list[str]:
        """The accounts that together are what a member has; that under which it is shown first."""
        return self.groups().get(account, [account])

    def profile_at(self, member: str, moment: datetime) -> dict[str, Any] | None:
        """What the latest enrolment up to `moment` says (schemas/members.py Enrolled); None: there is none."""
        until = limit(moment)
        said = [fact.value for fact in self.members.get(member, ()) if fact.kind == "enrolled" and fact.order <= until]
        return said[-1] if said else None

    def segments_of(self, member: str) -> dict[str, dict[str, Any]]:
        """By segmentation what was published of a member last: the data of `member.segments_changed`."""
        return {fact.value["segmentation"]: fact.value for fact in self.members.get(member, ()) if fact.kind == "segments"}

    def known_as(self, event: ProfileEvent) -> ProfileEvent:
        """The event with who it is, after the merges up to then; an enrolment also with whether they had enrolled before."""
        order = fact_of(event).order
        into = self.merges(order).into
        person = root_of(event.data.member_id, into)
        if isinstance(event, SegmentsEvent):
            return structs.replace(event, personid=person)
        names = [person, *(name for name in into if root_of(name, into) == person)]
        before = any(fact.kind == "enrolled" and fact.order < order for name in names for fact in self.members.get(name, ()))
        return structs.replace(event, personid=person, enrolledbefore=before)

    def told(self, event: ProfileEvent) -> ProfileEvent:
        """An event as `transactions` carries it, without what it says of a person, with that again, as far as it is still known."""
        event = self.known_as(event)
        if isinstance(event, SegmentsEvent):
            order = fact_of(event).order
            said = [fact.value["segments"] for fact in self.members.get(event.data.member_id, ()) if fact.order == order]
            return structs.replace(event, data=structs.replace(event.data, segments=said[0])) if said else event
        profile = self.profile_at(event.data.member_id, event.time)
        return event if profile is None else structs.replace(event, data=msgspec.convert({**profile, "identities": []}, Enrolled))

    def consents_of(self, member: str) -> dict[str, Any]:
        """By purpose whether it is agreed to, by what is known of a member."""
        return consents_in(self.members.get(member, ()))


def consents_in(facts: Iterable[Fact]) -> dict[str, Any]:
    """By purpose whether it is agreed to, by a member's facts in order: the latest enrolment's, and what was changed since."""
    consents: dict[str, Any] = {}
    for fact in facts:
        if fact.kind == "enrolled":
            consents = dict(fact.value["consents"])
        elif fact.kind == "consents":
            consents |= fact.value
    return consents


def member_among(links: Iterable[Fact], until: str) -> str | None:
    """Of the enrolments of one identity, in order, the latest up to `until`, otherwise the first; None: there are none."""
    found: str | None = None
    for link in links:
        if found is None or link.order <= until:
            found = link.value
    return found


def root_of(member: str, into: Mapping[str, str]) -> str:
    """The member that this one is, after all merges."""
    while member in into:
        member = into[member]
    return member


def circular_merge(event: MergedEvent) -> Malformed:
    """Why a merge does not count."""
    return Malformed("cycle", "$.data.into", f"{event.data.into!r} is merged into {event.data.from_!r} already; unmerge it first")
