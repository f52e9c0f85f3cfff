"""The directory in Redis: which account an identity leads to, which account every delivery of a receipt goes to, and parked returns.

    {i7}:identities        hash  identity hash -> member id
    {r7}:claims            hash  natural key of a sale -> account id ('': anonymous)
    {r7}:parked            set   natural keys of sales that returns wait for
    {r7}:parked:<key>      hash  natural key of a return -> the event

Delivery: a claim is made once and stands; its idempotency key is the sale's natural key. Repeating a claim, an enrolment or a parking
changes nothing. The directory is a view: identities of the topic `members`, claims of `transactions`, parked returns of `parked`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tillstream.sinks.redis import SLOTS, Redis

CLAIMS_PER_CALL = 2_000
"""Bounds the arguments of one function call."""


class Claim(NamedTuple):
    """The account that a sale was claimed for first ('': anonymous), and whether returns are parked for it."""

    account: str
    parked: bool


class Parking(NamedTuple):
    """A return that looks for its sale."""

    sale_key: str
    key: str
    event: bytes


def slot_of(digest: str) -> int:
    """The hash tag's number for a hexadecimal digest."""
    return int(digest[:4], 16) % SLOTS


class Directory:
    """Identities, claims and parked returns, spread over `SLOTS` hash tags."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    async def enrolled(self, identities: Iterable[str]) -> dict[str, str]:
        """The member ids that identity hashes lead to; hashes that nobody enrolled are left out."""
        slots = by_slot(dict.fromkeys(identities))
        answers = await self._all(("HMGET", f"{{i{slot}}}:identities", *names) for slot, names in slots.items())
        return {
            name: value.decode()
            for names, values in zip(slots.values(), answers, strict=True)
            for name, value in zip(names, values, strict=True)
            if value is not None
        }

    async def enrol(self, members: Mapping[str, str]) -> None:
        """Lets identity hashes lead to member ids; the latest enrolment stands."""
        await self._all(
            ("HSET", f"{{i{slot}}}:identities", *(part for name in names for part in (name, members[name])))
            for slot, names in by_slot(members).items()
        )

    async def claim(self, accounts: Mapping[str, str]) -> dict[str, Claim]:
        """Claims sales for accounts; gives the claim that stands for each, which may be an earlier one."""
        asked = [
            (slot, names[first : first + CLAIMS_PER_CALL])
            for slot, names in by_slot(accounts).items()
            for first in range(0, len(names), CLAIMS_PER_CALL)
        ]
        answers = await self._all(
            ("FCALL", "tillstream_claim", 2, *claim_keys(slot), *(part for name in names for part in (name, accounts[name])))
            for slot, names in asked
        )
        return {
            name: Claim(answer[2 * index].decode(), bool(answer[2 * index + 1]))
            for (_, names), answer in zip(asked, answers, strict=True)
            for index, name in enumerate(names)
        }

    async def find_or_park(self, parkings: Iterable[Parking]) -> list[str | None]:
        """The account of each return's sale; None: its sale is not known, the return is parked until it is."""
        answers = await self._all(
            ("FCALL", "tillstream_find_or_park", 3, *parked_keys(parking.sale_key), *parking) for parking in parkings
        )
        return [None if answer is None else answer.decode() for answer in answers]

    async def parked(self, sale_keys: Iterable[str]) -> dict[str, dict[str, bytes]]:
        """Per sale the events that are parked for it, by natural key."""
        names = list(sale_keys)
        answers = await self._all(("HGETALL", parked_keys(name)[2]) for name in names)
        return {name: {key.decode(): event for key, event in pairs_of(answer)} for name, answer in zip(names, answers, strict=True)}

    async def unpark(self, done: Mapping[str, Iterable[str]]) -> None:
        """Forgets parked events, by sale, once they have gone on to the sale's account."""
        await self._all(("FCALL", "tillstream_unpark", 2, *parked_keys(sale)[1:], sale, *keys) for sale, keys in done.items() if keys)

    async def _all(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        asked = 0
        for command in commands:
            pipeline.execute_command(*command)
            asked += 1
        return await pipeline.execute() if asked else []


def claim_keys(slot: int) -> tuple[str, str]:
    return f"{{r{slot}}}:claims", f"{{r{slot}}}:parked"


def parked_keys(sale_key: str) -> tuple[str, str, str]:
    claims, parked = claim_keys(slot_of(sale_key))
    return claims, parked, f"{parked}:{sale_key}"


def pairs_of(answer: Any) -> Iterable[tuple[bytes, bytes]]:
    """HGETALL's answer, which redis-py gives as a mapping from a single server and as a flat list in a pipeline."""
    return answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)


def by_slot(names: Iterable[str]) -> dict[int, list[str]]:
    slots: dict[int, list[str]] = defaultdict(list)
    for name in names:
        slots[slot_of(name)].append(name)
    return slots
