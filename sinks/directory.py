"""The directory in Redis: which account every delivery of a receipt goes to, and parked returns; who is who, registry.py has beside it.

    tillstream:members     last offset of `members` that the registry has
    {r7}:claims            hash  natural key of a sale -> account id ('': anonymous)
    {r7}:parked            set   natural keys of sales that returns wait for
    {r7}:parked:<key>      hash  key of a return -> its number, a space, the event
    {r7}:horizon           latest local date, yyyymmdd, of which claims were forgotten

Delivery: a claim is made once and stands; its idempotency key is the sale's natural key. Repeating a claim or a parking changes
nothing. The directory is a view: the registry of the topic `members`, claims of `transactions`, parked returns of `parked`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any, Literal, NamedTuple

from tillstream.sinks.redis import SLOTS, Asks, Redis, RedisEmptied
from tillstream.sinks.registry import RegistryStore

MEMBERS_KEY = "tillstream:members"
"""The last offset of `members` that the registry has; not there: the directory was never filled, or has been emptied."""

CLAIMS_PER_CALL = 2_000
"""Bounds the arguments of one function call."""


class Claiming(NamedTuple):
    """A sale that looks for its account: the one it would go to ('': anonymous), and its local date at the earliest."""

    account: str
    day: date


class Claim(NamedTuple):
    """The account that a sale was claimed for first ('': anonymous; None: history must be asked), and whether returns are parked for it."""

    account: str | None
    parked: bool


class Parking(NamedTuple):
    """A return that looks for its sale; two events are told apart by `key`, and the first with a key stays."""

    sale_key: str
    key: str
    event: bytes


class Found(NamedTuple):
    """Where a return's sale is: at an `account`; not known, so that the return was `parked`; or only `history` can tell."""

    where: Literal["account", "parked", "history"]
    account: str = ""


def slot_of(digest: str) -> int:
    """The hash tag's number for a hexadecimal digest."""
    return int(digest[:4], 16) % SLOTS


DIRECTORY_GONE = "members, claims and parked returns are gone"


class Directory(Asks):
    """Claims and parked returns, spread over `SLOTS` hash tags, and the registry."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.registry = RegistryStore(client)
        self.filled = False

    async def group_of(self, account: str) -> list[str]:
        """The accounts that together are what a member has, that under which it is shown first (kernels/registry.py)."""
        return (await self.registry.of_accounts([account])).group_of(account)

    async def members_offset(self) -> int | None:
        """The last offset of `members` that the registry has, -1 for none; None: the directory is empty and must be restored."""
        offset = await self.client.get(MEMBERS_KEY)
        return None if offset is None else int(offset)

    async def note_members(self, offset: int) -> None:
        """Notes how far the registry has `members`.

        Raises:
            RedisEmptied: as `check_filled`; the note would hide it.
        """
        if not await self.client.set(MEMBERS_KEY, offset, xx=self.filled):
            raise RedisEmptied(DIRECTORY_GONE)
        self.filled = True

    async def check_filled(self) -> None:
        """Raises RedisEmptied where the directory was seen filled and is not any more: who is looked up now would be nobody."""
        if await self.members_offset() is not None:
            self.filled = True
        elif self.filled:
            raise RedisEmptied(DIRECTORY_GONE)

    async def claim(self, claimings: Mapping[str, Claiming]) -> dict[str, Claim]:
        """Claims sales, by natural key, for accounts; gives the claim that stands for each, which may be an earlier one."""
        asked = chunks_by_slot(claimings)
        answers = await self._all(
            ("FCALL", "tillstream_claim", 3, *claim_keys(slot), *claim_arguments(names, claimings)) for slot, names in asked
        )
        return {
            name: Claim(answer[2 * index].decode() if answer[2 * index] != 0 else None, bool(answer[2 * index + 1]))
            for (_, names), answer in zip(asked, answers, strict=True)
            for index, name in enumerate(names)
        }

    async def claimed(self, sale_keys: Iterable[str]) -> dict[str, str]:
        """The accounts that sales were claimed for, by natural key; without those that nobody claimed, or that are anonymous."""
        asked = chunks_by_slot(sale_keys)
        answers = await self._all(("HMGET", claim_keys(slot)[0], *names) for slot, names in asked)
        pairs = (pair for (_, names), answer in zip(asked, answers, strict=True) for pair in zip(names, answer, strict=True))
        return {name: account.decode() for name, account in pairs if account}

    async def forget_claims(self, day: date, sale_keys: Iterable[str]) -> None:
        """Lets go of the claims of one local date, which history knows; whoever asks for one is sent there."""
        await self._all(
            ("FCALL", "tillstream_forget_claims", 2, claim_keys(slot)[0], claim_keys(slot)[2], day_number(day), *names)
            for slot, names in chunks_by_slot(sale_keys)
        )

    async def find_or_park(self, parkings: Iterable[Parking], *, history_asked: bool = False) -> list[Found]:
        """Where each return's sale is: see `Found`."""
        answers = await self._all(
            ("FCALL", "tillstream_find_or_park", 4, *parked_keys(sale), horizon_key(sale), sale, key, event, int(history_asked))
            for sale, key, event in parkings
        )
        return [Found("parked") if a is None else Found("history") if a == 0 else Found("account", a.decode()) for a in answers]

    async def parked(self, sale_keys: Iterable[str]) -> dict[str, dict[str, bytes]]:
        """Per sale the events that are parked for it, by their keys, in the order of their arrival."""
        names = list(sale_keys)
        answers = await self._all(("HGETALL", parked_keys(name)[2]) for name in names)
        return {name: in_order(pairs_of(answer)) for name, answer in zip(names, answers, strict=True)}

    async def parked_count(self) -> int:
        """How many events are parked: returns whose sale nobody has seen."""
        sets = await self._all(("SMEMBERS", claim_keys(slot)[1]) for slot in range(SLOTS))
        sizes = await self._all(("HLEN", parked_keys(sale.decode())[2]) for sales in sets for sale in sales)
        return sum(sizes)

    async def unpark(self, done: Mapping[str, Iterable[str]]) -> None:
        """Forgets parked events, by sale, once they have gone on to the sale's account."""
        await self._all(("FCALL", "tillstream_unpark", 2, *parked_keys(sale)[1:], sale, *keys) for sale, keys in done.items() if keys)


def claim_keys(slot: int) -> tuple[str, str, str]:
    return f"{{r{slot}}}:claims", f"{{r{slot}}}:parked", f"{{r{slot}}}:horizon"


def claim_arguments(names: list[str], claimings: Mapping[str, Claiming]) -> Iterator[str | int]:
    for name in names:
        yield name
        yield claimings[name].account
        yield day_number(claimings[name].day)


def day_number(day: date) -> int:
    """yyyymmdd: dates that Lua can compare."""
    return day.year * 10_000 + day.month * 100 + day.day


def chunks_by_slot(names: Iterable[str]) -> list[tuple[int, list[str]]]:
    """Keys by hash tag, `CLAIMS_PER_CALL` at a time."""
    return [
        (slot, some[first : first + CLAIMS_PER_CALL])
        for slot, some in by_slot(names).items()
        for first in range(0, len(some), CLAIMS_PER_CALL)
    ]


def parked_keys(sale_key: str) -> tuple[str, str, str]:
    claims, parked, _ = claim_keys(slot_of(sale_key))
    return claims, parked, f"{parked}:{sale_key}"


def horizon_key(sale_key: str) -> str:
    return claim_keys(slot_of(sale_key))[2]


def pairs_of(answer: Any) -> Iterable[tuple[bytes, bytes]]:
    """HGETALL's answer, which redis-py gives as a mapping from a single server and as a flat list in a pipeline."""
    return answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)


def in_order(parked: Iterable[tuple[bytes, bytes]]) -> dict[str, bytes]:
    """Parked events by key, as they were numbered: of two that contradict each other the first one counts."""
    numbered = [(key.decode(), value.partition(b" ")) for key, value in parked]
    return {key: event for key, (_, _, event) in sorted(numbered, key=lambda item: int(item[1][0]))}


def by_slot(names: Iterable[str]) -> dict[int, list[str]]:
    slots: dict[int, list[str]] = defaultdict(list)
    for name in names:
        slots[slot_of(name)].append(name)
    return slots
