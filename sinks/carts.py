"""Carts that may be abandoned: when which is to be looked at, and when members bought last. Carts are states (sinks/features.py).

    {o17}:carts              zset    minutes, a blank, visitor -> when its cart will have waited so long, milliseconds
    {d7}:receipts:<member>   zset    `latest` -> when the member's latest receipt was issued, milliseconds; fades after two days

Delivery: at least once. The first is written before the states that it is about, and says no more than where to look: what is true, the
states say. An entry is removed only if it stands as it was read, so a cart that has changed meanwhile keeps its new one.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tillstream.sinks.redis import Asks, Redis, tag_of

DUE_MAX = 200
"""Carts of one partition that are looked at together; the next look takes more."""

RECEIPTS_S = 2 * 86_400
"""No offer waits for longer than a day."""

LATEST = "latest"

CART_KEYS = ("{o17}:carts", "{d7}:receipts:<member>")
"""As the documents call the keys."""

_REMOVE = """
for place = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[place])
  if score and tonumber(score) == tonumber(ARGV[place + 1]) then redis.call('ZREM', KEYS[1], ARGV[place]) end
end
"""


class Due(NamedTuple):
    """A visitor of a partition of `clickstream` whose cart will have waited `minutes` at `at_ms`."""

    partition: int
    visitor: str
    minutes: int
    at_ms: int


class CartStore(Asks):
    """Notes when to look, and finds what is due."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    async def note(self, partition: int, changed: Mapping[str, int | None], waits: Iterable[int]) -> None:
        """Notes carts that have changed: by visitor the instant of the change, None where nothing is in it; `waits` are in minutes."""
        commands: list[tuple[Any, ...]] = []
        for visitor, at_ms in changed.items():
            for minutes in waits:
                name = f"{minutes} {visitor}"
                commands.append(
                    ("ZREM", due_key(partition), name) if at_ms is None else ("ZADD", due_key(partition), at_ms + minutes * 60_000, name)
                )
        await self._all(commands)

    async def due(self, partitions: Sequence[int], now_ms: int) -> list[Due]:
        """What is due in some partitions, the first `DUE_MAX` of each."""
        asked = [("ZRANGE", due_key(one), "-inf", now_ms, "BYSCORE", "LIMIT", 0, DUE_MAX, "WITHSCORES") for one in partitions]
        found: list[Due] = []
        for partition, answer in zip(partitions, await self._all(asked), strict=True):
            for name, score in pairs(answer):
                minutes, _, visitor = name.decode().partition(" ")
                found.append(Due(partition, visitor, int(minutes), int(float(score))))
        return found

    async def remove(self, due: Iterable[Due]) -> None:
        """Ends the looking at carts, unless they are to be looked at later meanwhile."""
        by_partition: dict[int, list[str | int]] = {}
        for one in due:
            by_partition.setdefault(one.partition, []).extend((f"{one.minutes} {one.visitor}", one.at_ms))
        for partition, arguments in by_partition.items():
            await self.client.execute_command("EVAL", _REMOVE, 1, due_key(partition), *arguments)

    async def note_receipts(self, receipts: Iterable[tuple[str, int]]) -> None:
        """Notes of (member, instant) when members bought; the latest stays."""
        commands: list[tuple[Any, ...]] = []
        for member, at_ms in receipts:
            commands += [("ZADD", receipts_key(member), "GT", at_ms, LATEST), ("EXPIRE", receipts_key(member), RECEIPTS_S)]
        await self._all(commands)

    async def latest_receipts(self, members: Iterable[str]) -> dict[str, int]:
        """When members bought last, as far as that is known."""
        names = list(dict.fromkeys(members))
        found = await self._all([("ZSCORE", receipts_key(name), LATEST) for name in names])
        return {name: int(float(score)) for name, score in zip(names, found, strict=True) if score is not None}


def due_key(partition: int) -> str:
    return f"{{o{partition}}}:carts"


def receipts_key(member: str) -> str:
    return f"{tag_of('d', member)}:receipts:{member}"


def pairs(answer: Sequence[Any]) -> list[tuple[bytes, Any]]:
    """Names and scores, as either protocol of Redis gives them."""
    if answer and isinstance(answer[0], list | tuple):
        return [(name, score) for name, score in answer]
    return list(zip(answer[::2], answer[1::2], strict=True))
