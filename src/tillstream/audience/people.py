"""The members behind accounts, and what they have agreed to: from the registry in Redis, where consents stand (sinks/registry.py).

In: all that is known of members. Out: per member that takes part, its account now and its consents. Who was merged into another one is that
one; who was erased, or never enrolled, takes no part.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from tillstream.kernels.registry import Registry, root_of
from tillstream.schemas.receipts import Identity
from tillstream.sinks.registry import MERGES, RegistryStore

PROFILING = "profiling"
"""The purpose that scoring somebody is."""


class Person(NamedTuple):
    """A member; `profile` is what its latest enrolment says, `published` its segments, by segmentation (`member.segments_changed`).

    joined: whether another member was ever merged into it, and may have brought segments along.
    """

    member_id: str
    account_id: str
    consents: Mapping[str, Any]
    profile: Mapping[str, Any]
    published: Mapping[str, Mapping[str, Any]]
    joined: bool = False

    def agrees(self, purpose: str) -> bool:
        """Whether the member has agreed to a purpose, and not taken it back."""
        return self.consents.get(purpose) is True


async def people(store: RegistryStore, moment: datetime) -> AsyncIterator[Person]:
    """All members that take part, by what is known at `moment`; some thousand at a time are in memory."""
    async for members in store.all_members():
        registry = Registry()
        registry.members = members
        await store.load_ties(registry, members, MERGES)
        into = registry.merges().into
        for member in sorted(members):
            profile = registry.profile_at(member, moment)
            if profile is not None and root_of(member, into) == member:
                account = registry.account_at(Identity("member", member), moment)
                joined = any(fact.kind == "named" for fact in registry.ties.get(member, ()))
                yield Person(member, account, registry.consents_of(member), profile, registry.segments_of(member), joined)


class Crowd:
    """People by account."""

    def __init__(self) -> None:
        self.of_account: dict[str, list[Person]] = {}
        self.account_of: dict[str, str] = {}

    def add(self, person: Person) -> None:
        """Adds a member, once."""
        if person.member_id in self.account_of:
            return
        self.of_account.setdefault(person.account_id, []).append(person)
        self.account_of[person.member_id] = person.account_id

    def may_profile(self, account: str) -> bool:
        """Whether everybody whose purchases stand on this account has agreed to profiling."""
        found = self.of_account.get(account, [])
        return bool(found) and all(person.agrees(PROFILING) for person in found)


async def crowd(store: RegistryStore, moment: datetime) -> Crowd:
    """All members that take part, by account."""
    found = Crowd()
    async for person in people(store, moment):
        found.add(person)
    return found
