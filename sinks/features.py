"""States of visitors and members in Redis, as bytes: folds of two topics, each beside the offset that it stands at (docs/adr/0025).

    {o17}:meta                  hash    offset: the last one of partition 17 of `clickstream` that is in the states
    {o17}:visits:<visitor>      string  state of a visitor; fades
    {o17}:cart:<visitor>        string  what is in a visitor's cart, while a program asks; fades
    {v3}:meta                   hash    the same of `transactions`
    {v3}:purchases:<account>    string  state of an account's purchases; fades
    {f7}:visitors:<member>      zset    keys of the states of visitors linked to a member -> when, ms (32 tags); fades
    {f7}:accounts:<member>      zset    keys of the states in which purchases of a member are, where its own account is not the one; fades

Delivery: exactly once in effect. A batch's states are written by one function call, fenced on the offset that they were read with; the
idempotency key is that offset. In the place of a forgotten state stands a mark for a minute, over which nothing is written.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tillstream.sinks.redis import Asks, Redis, tag_of
from tillstream.sinks.state import Fenced, present

MARK = b"-"
"""Stands for what was forgotten; no state is as short."""

MARK_S = 60
"""Longer than any batch takes between reading its states and writing them."""

VISITORS_MAX = 1_000
"""Visitors noted of a member: nobody has so many browsers, but anybody may claim to be a member. Of others the latest stay."""

VISITORS_S = 30 * 86_400
ACCOUNTS_S = 400 * 86_400
CARTS_S = 2 * 86_400
"""As long as the states that are noted are kept."""

DOCUMENTED = (
    *("{o17}:meta", "{v3}:meta", "{o17}:visits:<visitor>", "{o17}:cart:<visitor>", "{v3}:purchases:<account>"),
    *("{f7}:visitors:<member>", "{f7}:accounts:<member>"),
)
"""As the documents call the keys."""


class Kind(NamedTuple):
    """One kind of states: the letter of its hash tags, and its name."""

    letter: str
    name: str

    def meta(self, partition: int) -> str:
        return f"{{{self.letter}{partition}}}:meta"

    def key(self, partition: int, name: str) -> str:
        """Where one state is."""
        return f"{{{self.letter}{partition}}}:{self.name}:{name}"


VISITS = Kind("o", "visits")
CARTS = Kind("o", "cart")
"""Written with those of visits, so that both stand at one offset."""

PURCHASES = Kind("v", "purchases")


class States(NamedTuple):
    """What a batch names, by name, and the last offset (-1: none) that is in it."""

    offset: int
    found: dict[str, bytes]


class Kept(NamedTuple):
    """A state to write, and for how many seconds."""

    state: bytes
    seconds: int


class Trace(NamedTuple):
    """That something of a member is in the state at `key`, since `at_ms`."""

    member: str
    key: str
    at_ms: int


class FeatureStore(Asks):
    """Reads and writes states, and forgets those of a member."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    async def standing(self, kind: Kind, partition: int) -> int:
        """The last offset that is in the states of a partition, -1 for none."""
        return int(await self.client.hget(kind.meta(partition), "offset") or -1)

    async def load(self, kind: Kind, partition: int, names: Sequence[str]) -> States:
        """The states that a batch of one partition names, in one round trip."""
        # The offset is read first: what a writer in between changes, the fence tells.
        offset, *states = await self._all(
            [("HGET", kind.meta(partition), "offset"), *(("GET", kind.key(partition, name)) for name in names)]
        )
        return States(int(offset or -1), known(names, states))

    async def read(self, kind: Kind, places: Mapping[str, int]) -> dict[str, bytes]:
        """States by name, each in its partition, in one round trip; by whoever does not write them."""
        return known(list(places), await self._all([("GET", kind.key(partition, name)) for name, partition in places.items()]))

    async def apply(
        self, kind: Kind, partition: int, before: int, after: int, states: Mapping[str, Kept], carts: Mapping[str, Kept] | None = None
    ) -> None:
        """Writes states, and carts of visitors, and moves their partition from offset `before` to `after`, all or nothing.

        Raises:
            Fenced: the partition does not stand at `before`; nothing was changed.
        """
        carts = carts or {}
        keys = [kind.meta(partition), *(kind.key(partition, name) for name in states), *(CARTS.key(partition, name) for name in carts)]
        arguments = [before, after, *(part for kept in (*states.values(), *carts.values()) for part in kept)]
        done, offset = await self.client.fcall("tillstream_keep_states", len(keys), *keys, *arguments)
        if not done:
            raise Fenced(partition, offset)

    async def note_visitors(self, traces: Iterable[Trace]) -> None:
        """Notes which visitors are linked to members; before their states are written."""
        await self._note("visitors", traces, VISITORS_S)

    async def note_accounts(self, traces: Iterable[Trace]) -> None:
        """Notes in which other accounts there are purchases of members; before their states are written."""
        await self._note("accounts", traces, ACCOUNTS_S)

    async def _note(self, name: str, traces: Iterable[Trace], seconds: int) -> None:
        commands: list[tuple[Any, ...]] = []
        for member, key, at_ms in traces:
            place = trace_key(name, member)
            commands += [("ZADD", place, at_ms, key), ("ZREMRANGEBYRANK", place, 0, -VISITORS_MAX - 1), ("EXPIRE", place, seconds)]
        await self._all(commands)

    async def forget(self, members: Mapping[str, int]) -> None:
        """Forgets all states in which something of some members is; by member the partition of its own account."""
        own = [PURCHASES.key(partition, member) for member, partition in members.items()]
        traces = [trace_key(name, member) for member in members for name in ("visitors", "accounts")]
        noted = await self._all([("ZRANGE", place, 0, -1) for place in traces])
        keys = dict.fromkeys([*own, *(key.decode() for some in noted for key in some)])
        await self._all([("SET", key, MARK, "EX", MARK_S) for key in keys])
        await self._all([("DEL", place) for place, some in zip(traces, noted, strict=True) if some])


def known(names: Sequence[str], states: Sequence[bytes | None]) -> dict[str, bytes]:
    """States by name, without those that are not there or were forgotten."""
    return {name: state for name, state in present(names, states) if state != MARK}


def trace_key(name: str, member: str) -> str:
    """The set of what is noted of a member."""
    return f"{tag_of('f', member)}:{name}:{member}"
