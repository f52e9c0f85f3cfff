"""States of visitors and members in Redis, as bytes: folds of two topics, each beside the offset that it stands at (docs/adr/0025).

    {o17}:meta                  hash    offset: the last one of partition 17 of `clickstream` that is in the states
    {o17}:visits:<visitor>      string  state of a visitor; fades
    {o17}:cart:<visitor>        string  what is in a visitor's cart, while a program asks; fades
    {v3}:meta                   hash    the same of `transactions`
    {v3}:purchases:<account>    string  state of an account's purchases; fades
    {f7}:visitors:<member>      zset    keys of the states of visitors linked to a member -> when, ms (32 tags); fades
    {f7}:accounts:<member>      zset    keys of the states in which purchases of a member are, where its own account is not the one; fades
    {f7}:forgotten:<member>     string  the member was forgotten within the last minute: `erased`, or else withdrew the consent to features

Delivery: exactly once in effect. A batch's states are written by one function call, fenced on the offset that they were read with; the
idempotency key is that offset. In the place of a forgotten state stands a mark for a minute, over which nothing is written.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tillstream.sinks.redis import Asks, Redis, RedisEmptied, tag_of
from tillstream.sinks.state import Fenced, present

MARK = b"-"
"""Stands for what was forgotten; no state is as short."""

FORGOTTEN = "forgotten"
ERASED = b"erased"

MARK_S = 60
"""Longer than any batch takes between reading its states and writing them."""

VISITORS_MAX = 1_000
"""Visitors kept of a member: nobody has so many browsers, but anybody may claim to be a member. The latest stay, others are deleted."""

VISITORS_S = 30 * 86_400
ACCOUNTS_S = 400 * 86_400
CARTS_S = 2 * 86_400
"""As long as the states that are noted are kept."""

DOCUMENTED = (
    *("{o17}:meta", "{v3}:meta", "{o17}:visits:<visitor>", "{o17}:cart:<visitor>", "{v3}:purchases:<account>"),
    *("{f7}:visitors:<member>", "{f7}:accounts:<member>", "{f7}:forgotten:<member>"),
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
    """That something of a member is in the state at `key`, since `at_ms`: features, or, of who does not agree to them, the link alone."""

    member: str
    key: str
    at_ms: int
    featured: bool = True


class FeatureStore(Asks):
    """Reads and writes states, and forgets those of a member."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.reached: dict[str, int] = {}

    async def standing(self, kind: Kind, partition: int) -> int:
        """The last offset that is in the states of a partition, -1 for none; raises as `load`."""
        return self._forward(kind.meta(partition), await self.client.hget(kind.meta(partition), "offset"))

    def _forward(self, meta: str, found: bytes | None) -> int:
        offset = int(found or -1)
        if offset < self.reached.get(meta, -1):
            raise RedisEmptied(f"{meta} stands at {offset}, and stood at {self.reached[meta]}")
        self.reached[meta] = offset
        return offset

    async def load(self, kind: Kind, partition: int, names: Sequence[str]) -> States:
        """The states that a batch of one partition names, in one round trip.

        Raises:
            RedisEmptied: they stand behind where this store saw them before.
        """
        # The offset is read first: what a writer in between changes, the fence tells.
        offset, *states = await self._all(
            [("HGET", kind.meta(partition), "offset"), *(("GET", kind.key(partition, name)) for name in names)]
        )
        return States(self._forward(kind.meta(partition), offset), known(names, states))

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
        self.reached[kind.meta(partition)] = after

    async def note_visitors(self, traces: Iterable[Trace]) -> set[str]:
        """Notes which visitors are linked to members; before their states are written. Gives the states not to write, by key."""
        return await self._note("visitors", list(traces), VISITORS_S)

    async def note_accounts(self, traces: Iterable[Trace]) -> set[str]:
        """Notes in which other accounts there are purchases of members; before their states are written. Gives those not to write."""
        return await self._note("accounts", list(traces), ACCOUNTS_S)

    async def _note(self, name: str, traces: Sequence[Trace], seconds: int) -> set[str]:
        commands: list[tuple[Any, ...]] = []
        for member, key, at_ms, _ in traces:
            place = trace_key(name, member)
            commands += [("ZADD", place, at_ms, key), ("EXPIRE", place, seconds)]
            # Behind the note: whoever forgets the member sets this before it reads the notes, so one of the two sees the other.
            commands.append(("GET", trace_key(FORGOTTEN, member)))
        answers = await self._all(commands)
        grown = dict.fromkeys(trace_key(name, trace.member) for trace, new in zip(traces, answers[::3], strict=True) if new)
        marks = zip(traces, answers[2::3], strict=True)
        forgotten = [trace for trace, mark in marks if mark == ERASED or (mark is not None and trace.featured)]
        beyond = await self._cut(grown)
        await self._all(("ZREM", trace_key(name, trace.member), trace.key) for trace in forgotten)
        return {trace.key for trace in forgotten} | beyond

    async def _cut(self, places: Iterable[str]) -> set[str]:
        """Notes no more than may be of a member; the states beyond them are deleted, since what is not noted would outlive an erasure."""
        commands: list[tuple[Any, ...]] = []
        for place in places:
            commands += [("ZRANGE", place, 0, -VISITORS_MAX - 1), ("ZREMRANGEBYRANK", place, 0, -VISITORS_MAX - 1)]
        beyond = {key.decode() for keys in (await self._all(commands))[::2] for key in keys}
        await self._all(("DEL", key) for key in beyond)
        return beyond

    async def forget(self, members: Mapping[str, int], erased: Collection[str] = ()) -> None:
        """Forgets all states in which something of some members is; by member the partition of its own account. Some are `erased`."""
        marks = {member: ERASED if member in erased else MARK for member in members}
        await self._all(("SET", trace_key(FORGOTTEN, member), mark, "EX", MARK_S) for member, mark in marks.items())
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
