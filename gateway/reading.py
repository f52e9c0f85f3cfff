"""What Redis knows of one member, read for one request: facts, holdings and state from several slots, in as few round trips as can be.

Which keys a member needs is known once it was read: its identity leads to a member, that one to a group of accounts. So the keys that a
look needed the last time are read first, all at once, and the same functions as ever (sinks/registry.py, kernels/registry.py) then find
them there; what has changed since is read after it. The answer is that of this moment either way; only its round trips differ.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from tillstream.kernels.facts import Fact, fact_in
from tillstream.kernels.holdings import Units
from tillstream.kernels.offering import Made
from tillstream.kernels.registry import Facts
from tillstream.schemas.member_state import Member
from tillstream.sinks.offers import made_in, member_keys
from tillstream.sinks.redis import Redis
from tillstream.sinks.registry import RegistryStore, index_key
from tillstream.sinks.state import keys
from tillstream.streams.groups import partition_of

HINTS_MAX = 20_000
"""Members whose keys are remembered: a few megabytes; who is not among them costs two round trips more."""

_units = msgspec.json.Decoder(Units)
_member = msgspec.json.Decoder(Member)

Subject = tuple[str, str]
"""Of facts: the name of their index (`members`, `ties`, `identities`), and the subject there."""


class Held(NamedTuple):
    """One account: what it holds, the state of its member, and the latest tick of its partition (ISO date)."""

    units: Units
    member: Member | None
    as_of: str | None


class Keys(NamedTuple):
    """What a look needs: subjects of facts, accounts, and members whose offers are wanted."""

    facts: frozenset[Subject] = frozenset()
    accounts: frozenset[str] = frozenset()
    offers: frozenset[str] = frozenset()


class Hints:
    """The keys that each subject needed last, of the most recent ones."""

    def __init__(self, size: int = HINTS_MAX) -> None:
        self.size = size
        self.known: OrderedDict[str, Keys] = OrderedDict()

    def of(self, subject: str, otherwise: Keys) -> Keys:
        """What it needed last; `otherwise` where it is new."""
        if subject not in self.known:
            return otherwise
        self.known.move_to_end(subject)
        return self.known[subject]

    def note(self, subject: str, needed: Keys) -> None:
        """Remembers what it needed now."""
        self.known[subject] = needed
        self.known.move_to_end(subject)
        if len(self.known) > self.size:
            self.known.popitem(last=False)


class Look(RegistryStore):
    """One request's view: each key is read once. `with_members`: for programs that look at members."""

    def __init__(self, client: Redis, partitions: int, *, with_members: bool) -> None:
        super().__init__(client)
        self.partitions = partitions
        self.with_members = with_members
        self.read_facts: dict[Subject, list[Fact]] = {}
        self.read_accounts: dict[str, Held] = {}
        self.needed_facts: set[Subject] = set()
        self.needed_accounts: set[str] = set()
        self.read_offers: dict[str, list[Made]] = {}
        self.needed_offers: set[str] = set()
        self.trips = 0

    @property
    def needed(self) -> Keys:
        """What was asked for so far."""
        return Keys(frozenset(self.needed_facts), frozenset(self.needed_accounts), frozenset(self.needed_offers))

    async def facts(self, name: str, subjects: Iterable[str]) -> Facts:
        """As `RegistryStore.facts`."""
        wanted = dict.fromkeys((name, subject) for subject in subjects)
        self.needed_facts |= wanted.keys()
        await self.fetch(Keys(frozenset(wanted.keys() - self.read_facts.keys())))
        return {subject: facts for name, subject in wanted if (facts := self.read_facts[name, subject])}

    async def accounts(self, names: Iterable[str]) -> dict[str, Held]:
        """Accounts, each as its partition has it; unknown ones hold nothing."""
        wanted = dict.fromkeys(names)
        self.needed_accounts |= wanted.keys()
        await self.fetch(Keys(accounts=frozenset(wanted.keys() - self.read_accounts.keys())))
        return {name: self.read_accounts[name] for name in wanted}

    async def offers(self, member: str) -> list[Made]:
        """The decisions on offers for a member that it did not redeem."""
        self.needed_offers.add(member)
        await self.fetch(Keys(offers=frozenset({member} - self.read_offers.keys())))
        return self.read_offers[member]

    async def fetch(self, wanted: Keys) -> None:
        """Reads keys in one round trip; nothing where there are none."""
        subjects: dict[str, list[Subject]] = defaultdict(list)
        for subject in wanted.facts:
            subjects[index_key(*subject)].append(subject)
        places: dict[int, list[str]] = defaultdict(list)
        for name in wanted.accounts:
            places[partition_of(name, self.partitions)].append(name)
        if not subjects and not places and not wanted.offers:
            return
        self.trips += 1
        pipeline = self.client.pipeline(transaction=False)
        for key, some in subjects.items():
            pipeline.hmget(key, [subject for _, subject in some])
        for partition, names in places.items():
            meta, account_key, _, _, _, member_key, *_ = keys(partition)
            pipeline.hget(meta, "as_of")
            pipeline.hmget(account_key, names)
            if self.with_members:
                pipeline.hmget(member_key, names)
        for member in wanted.offers:
            made, redeemed, _ = member_keys(member)
            pipeline.hgetall(made)
            pipeline.hkeys(redeemed)
        answers = iter(await pipeline.execute())
        for some in subjects.values():
            self.read_facts |= {subject: facts_in(value) for subject, value in zip(some, next(answers), strict=True)}
        for names in places.values():
            as_of = next(answers)
            units = next(answers)
            members = next(answers) if self.with_members else [None] * len(names)
            for name, holdings, state in zip(names, units, members, strict=True):
                self.read_accounts[name] = held(as_of, holdings, state)
        for member in wanted.offers:
            decisions, used = made_in(next(answers)), {name.decode() for name in next(answers)}
            self.read_offers[member] = [made for made in decisions.values() if made.decision_id not in used]


def facts_in(value: bytes | None) -> list[Fact]:
    return [] if value is None else sorted(map(fact_in, value.decode().split("\n")))


def held(as_of: Any, units: bytes | None, member: bytes | None) -> Held:
    return Held(
        {} if units is None else _units.decode(units),
        None if member is None else _member.decode(member),
        as_of.decode() if as_of else None,
    )
