"""Who is behind an identity, at an instant: the member, the account, and what they have consented to."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from tillstream.kernels.facts import limit
from tillstream.kernels.identities import SEALED, provisional_digest
from tillstream.kernels.registry import Registry, root_of
from tillstream.schemas.receipts import Identity
from tillstream.sinks.registry import RegistryStore

PROFILING = "profiling"
"""The purpose without which nothing is kept of what a member does."""


class Person(NamedTuple):
    """A member that has enrolled; `account_id` is where they gather points, which a household may share."""

    member_id: str
    account_id: str
    consents: Mapping[str, Any]

    @property
    def profiled(self) -> bool:
        """Whether features of them may be kept."""
        return self.consents.get(PROFILING) is True


class Persons:
    """Asks the registry in Redis."""

    def __init__(self, registry: RegistryStore) -> None:
        self.registry = registry

    async def of(self, named: Sequence[tuple[Identity | None, datetime]]) -> list[Person | None]:
        """The persons of sealed identities, each at an instant; None where nobody has enrolled, or not any more.

        One round trip where all are member ids, three where there are cards and the like, and one per further merge.
        """
        identities = {identity for identity, _ in named if identity is not None}
        own = {identity.value for identity in identities if identity.scheme == "member"}
        registry, facts = await asyncio.gather(self.registry.of_identities(identities), self.registry.facts("members", sorted(own)))
        found = {(identity, at): member_of(registry, identity, at) for identity, at in named if identity is not None}
        members = {member for member, _ in found.values() if member is not None}
        registry.members = facts | await self.registry.facts("members", sorted(members - own))
        consents = {member: consents_of(registry, member) for member in members}
        return [person_of(*found[identity, at], consents) if identity is not None else None for identity, at in named]

    async def erased(self, identities: Iterable[Identity]) -> set[str]:
        """The ids of members that were erased, among identities that are nobody's; no round trip where none is a member's id."""
        names = {identity.value for identity in identities if identity.scheme == "member"}
        facts = await self.registry.facts("members", sorted(names)) if names else {}
        return {member for member, known in facts.items() if any(fact.kind == "erased" for fact in known)}


def member_of(registry: Registry, identity: Identity, at: datetime) -> tuple[str | None, str]:
    """The member behind an identity, after merges, and its account."""
    until = limit(at)
    member = registry.member_at(identity, until)
    if member is None:
        return None, ""
    root = root_of(member, registry.merges(until).into)
    return root, registry.household_at(root, until) or root


def consents_of(registry: Registry, member: str) -> Mapping[str, Any] | None:
    """What an enrolled member has consented to; None: it has not enrolled."""
    enrolled = any(fact.kind == "enrolled" for fact in registry.members.get(member, ()))
    return registry.consents_of(member) if enrolled else None


def person_of(member: str | None, account: str, consents: Mapping[str, Mapping[str, Any] | None]) -> Person | None:
    """The person, or nobody."""
    known = None if member is None else consents[member]
    return None if member is None or known is None else Person(member, account, known)


def identity_of(account: str) -> Identity:
    """An identity that leads to the member whose account this is; that of a household leads to nobody.

    >>> identity_of("m1"), identity_of("p-00000000000000000000000000000001").value[:9]
    (Identity(scheme='member', value='m1'), 'blake2b:0')
    """
    digest = provisional_digest(account)
    # The hash is of the scheme as well, so that any name of a scheme will do.
    return Identity("member", account) if digest is None else Identity("card", SEALED + digest)
