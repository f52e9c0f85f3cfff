"""Who is who, in Redis: facts of members and the indexes by which they are found (kernels/facts.py).

    {m7}:members      hash  member id -> facts, one a line
    {m7}:ties         hash  member id -> households and merges, one a line; most members have none
    {i7}:identities   hash  identity hash -> the members that enrolled it, one a line

Delivery: at least once; the idempotency key is the natural key of the event that a fact came from. A fact goes to its member first, then to
the indexes, again where it was known: so a crash in between is mended by the repeat. The registry is a view of the topic `members`.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import get_args

from tillstream.kernels.facts import Fact, Noted, erasable, fact_in, index
from tillstream.kernels.identities import hash_in, provisional_digest
from tillstream.kernels.registry import Facts, Registry
from tillstream.schemas.receipts import Identity
from tillstream.sinks.redis import SLOTS, Asks, Redis, tag_of

MERGES = ("merged", "unmerged")

STATUSES: tuple[Noted, ...] = get_args(Noted)
"""In the order of the numbers that `tillstream_note_fact` gives."""

MEMBERS_PER_CALL = 2_000
"""Members that are read, and whose ties are asked for, at a time: some megabytes."""

KEYS = ("{m7}:members", "{m7}:ties", "{i7}:identities")
"""As the documents call them."""


class RegistryStore(Asks):
    """Notes facts, and loads those about what is asked for."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    async def note(self, facts: Sequence[tuple[str, Fact]]) -> list[Noted]:
        """Takes facts by member, in order; what became of each."""
        noted: list[Noted] = []
        first = 0
        for place, (member, fact) in enumerate(facts):
            if fact.kind == "erased":
                noted += await self._note(facts[first : place + 1])
                await self._erase(member)
                first = place + 1
        return noted + await self._note(facts[first:])

    async def _note(self, facts: Sequence[tuple[str, Fact]]) -> list[Noted]:
        answers = await self._all(
            ("FCALL", "tillstream_note_fact", 1, f"{tag_of('m', member)}:members", member, fact.line) for member, fact in facts
        )
        noted = [STATUSES[answer] for answer in answers]
        standing = [item for item, status in zip(facts, noted, strict=True) if status in {"added", "same"}]
        await self._all(
            ("FCALL", "tillstream_note_fact", 1, index_key(entry.name, entry.subject), entry.subject, entry.fact.line)
            for member, fact in standing
            for entry in index(member, fact)
        )
        return noted

    async def _erase(self, member: str) -> None:
        """Forgets what was known of a member before its erasure; from the indexes first, since only the facts lead there."""
        forgotten = erasable((await self.facts("members", [member])).get(member, []))
        for entry in (entry for fact in forgotten for entry in index(member, fact)):
            await self._drop(index_key(entry.name, entry.subject), entry.subject, [entry.fact])
        await self._drop(f"{tag_of('m', member)}:members", member, forgotten)

    async def _drop(self, key: str, subject: str, facts: Sequence[Fact]) -> None:
        if facts:
            await self.client.fcall("tillstream_drop_facts", 1, key, subject, *(fact.line for fact in facts))

    async def facts(self, name: str, subjects: Iterable[str]) -> Facts:
        """The facts of some subjects in `members`, `ties` or `identities`, in order; subjects without any are left out."""
        keys: dict[str, list[str]] = {}
        for subject in dict.fromkeys(subjects):
            keys.setdefault(index_key(name, subject), []).append(subject)
        answers = await self._all(("HMGET", key, *some) for key, some in keys.items())
        return {
            subject: sorted(map(fact_in, value.decode().split("\n")))
            for some, values in zip(keys.values(), answers, strict=True)
            for subject, value in zip(some, values, strict=True)
            if value is not None
        }

    async def all_members(self) -> AsyncIterator[Facts]:
        """The facts of all members, some at a time, each in order; one that enrols meanwhile may be left out."""
        for slot in range(SLOTS):
            some: Facts = {}
            async for member, value in self.client.hscan_iter(f"{{m{slot}}}:members", count=MEMBERS_PER_CALL):
                some[member.decode()] = sorted(map(fact_in, value.decode().split("\n")))
                if len(some) >= MEMBERS_PER_CALL:
                    yield some
                    some = {}
            if some:
                yield some

    async def of_identities(self, identities: Iterable[Identity]) -> Registry:
        """What it takes to tell the accounts of some sealed identities, at any instant: two round trips, and one per further merge."""
        wanted = list(dict.fromkeys(identities))
        registry = Registry()
        registry.identities = await self.facts("identities", (hash_in(item) for item in wanted if item.scheme != "member"))
        members = [item.value for item in wanted if item.scheme == "member"]
        await self.load_ties(registry, [*members, *linked(registry.identities)], MERGES)
        return registry

    async def of_accounts(self, accounts: Iterable[str]) -> Registry:
        """What it takes to tell the groups of some accounts, and all that is known of the members in them."""
        names = list(dict.fromkeys(accounts))
        registry = Registry()
        own = await self.facts("identities", (digest for name in names if (digest := provisional_digest(name)) is not None))
        await self.load_ties(registry, [*names, *linked(own)], (*MERGES, "named"))
        registry.members = await self.facts("members", {*names, *linked(own), *registry.ties})
        entries = [entry for member, facts in registry.members.items() for fact in facts for entry in index(member, fact)]
        registry.identities = own | await self.facts("identities", (entry.subject for entry in entries if entry.name == "identities"))
        return registry

    async def load_ties(self, registry: Registry, members: Iterable[str], follow: Sequence[str]) -> None:
        """Loads the ties of members, and of those that these lead to by the kinds in `follow`, and so on."""
        wanted, seen = set(members), set[str]()
        while wanted:
            seen |= wanted
            found = await self.facts("ties", sorted(wanted))
            registry.ties |= found
            wanted = {fact.value for facts in found.values() for fact in facts if fact.kind in follow} - seen


def linked(identities: Mapping[str, Sequence[Fact]]) -> Iterator[str]:
    """The members that enrolled some identities."""
    return (fact.value for facts in identities.values() for fact in facts)


def index_key(name: str, subject: str) -> str:
    """The hash in which a subject's facts stand."""
    return f"{{i{int(subject[:4], 16) % SLOTS}}}:identities" if name == "identities" else f"{tag_of('m', subject)}:{name}"
