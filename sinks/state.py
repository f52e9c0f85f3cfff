"""The state of partitions in Redis: a view of the ledger, read and written per batch.

Delivery: exactly once in effect. `apply` is one function call, fenced on the source offset at which the partition stood when the batch was
read; the idempotency key is that offset. A refused call means that another writer was there: reload and judge again.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

import msgspec

from tillstream.kernels.holdings import Units
from tillstream.kernels.packing import texts
from tillstream.kernels.routed import AnyRouted
from tillstream.kernels.snapshot import Returned, Snapshot
from tillstream.schemas.member_state import Member, Sheet
from tillstream.sinks.redis import Redis

TICK_ACCOUNTS_MAX = 5_000
"""Accounts that one step of a tick takes: bounds its memory and its function call."""

CHRONICLE_ROWS = 1_000
"""Events of accounts' chronicles per round trip: a megabyte or two."""

DAY_KEYS_MAX = 1_000
"""Postings that are let go by one function call: a few milliseconds of Redis."""

RETURNED_MARK = "r:"
"""Among a day's keys: what came back of this sale was last changed on that day."""

KEY, SALE_KEY, ACCOUNT = attrgetter("key"), attrgetter("sale_key"), attrgetter("account_id")
"""Of a batch, without a step of Python for each event."""

TEN = b"\x9a"
"""What a MessagePack list of ten begins with."""

_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_units = msgspec.json.Decoder(Units)
_returned = msgspec.json.Decoder(Returned)
_waiting = msgspec.json.Decoder(dict[str, str])
_member = msgspec.json.Decoder(Member)
_sheet = msgspec.json.Decoder(Sheet)


class Standing(NamedTuple):
    """Where a partition stands: the last source offset applied, the last ledger offset applied (-1: none), the latest tick's date."""

    offset: int
    ledger: int
    as_of: str | None


class Loaded(NamedTuple):
    """A snapshot of what a batch names, and where the partition stood."""

    snapshot: Snapshot
    standing: Standing


class Fenced(Exception):
    """Another writer has moved the partition; it stands at `offset`."""

    def __init__(self, partition: int, offset: int) -> None:
        super().__init__(f"partition {partition} stands at source offset {offset}: another worker writes it")
        self.offset = offset


def tag(partition: int) -> str:
    """The hash tag of a partition: all of its keys share a slot."""
    return f"{{p{partition}}}"


def keys(partition: int) -> list[str]:
    names = ("meta", "accounts", "postings", "returned", "waiting", "members", "sheets", "budgets")
    return [f"{tag(partition)}:{name}" for name in names]


class StateStore:
    """Reads snapshots, applies what has changed in them; `with_members`: for programs that look at members."""

    def __init__(self, client: Redis, *, with_members: bool = False) -> None:
        self.client = client
        self.with_members = with_members

    async def standing(self, partition: int) -> Standing:
        """Where the partition stands."""
        return read_standing(await self.client.hmget(keys(partition)[0], "offset", "ledger", "as_of"))

    async def load(self, partition: int, batch: Sequence[AnyRouted]) -> Loaded:
        """What the events of a batch name, in one round trip, or two where events wait."""
        own, about = list(map(KEY, batch)), list(map(SALE_KEY, batch))
        sales = [] if about == own else [sale for sale, key in zip(about, own, strict=True) if sale != key]
        names = list(filter(None, [*own, *sales]))
        accounts = set(map(ACCOUNT, batch)) - {None}
        return await self.load_keys(partition, accounts, names, sales, names)

    async def load_keys(
        self, partition: int, accounts: Iterable[str], postings: Iterable[str], returned: Iterable[str], waiting: Iterable[str]
    ) -> Loaded:
        """The named parts of a partition's state."""
        wanted = [list(dict.fromkeys(names)) for names in (accounts, postings, returned)]
        meta, account_key, posting_key, returned_key, waiting_key, member_key, sheet_key, _ = keys(partition)
        hashes = [account_key, posting_key, returned_key, member_key, sheet_key]
        wanted += [wanted[0], wanted[2]] if self.with_members else [[], []]
        pipeline = self.client.pipeline(transaction=False)
        pipeline.hmget(meta, "offset", "ledger", "as_of")
        for key, names in zip(hashes, wanted, strict=True):
            if names:
                pipeline.hmget(key, names)
        pipeline.hlen(waiting_key)
        # Read last: what was let go in between is then known to be missing. The offset was read first: a writer in between is fenced.
        pipeline.hget(meta, "horizon")
        answers = iter(await pipeline.execute())
        standing = read_standing(next(answers))
        found = [dict(present(names, next(answers))) if names else {} for names in wanted]
        waiting_n, horizon = answers
        snapshot = Snapshot(standing.as_of)
        snapshot.horizon = horizon.decode() if horizon else None
        snapshot.accounts = {name: _units.decode(raw) for name, raw in found[0].items()}
        snapshot.postings = found[1]
        snapshot.returned = {name: _returned.decode(raw) for name, raw in found[2].items()}
        snapshot.members = {name: _member.decode(raw) for name, raw in found[3].items()}
        snapshot.sheets = {name: _sheet.decode(raw) for name, raw in found[4].items()}
        # Mostly nobody waits, and asking for whom would be a third of all names.
        if waiting_n and (names := list(dict.fromkeys(waiting))):
            events = present(names, await self.client.hmget(waiting_key, names))
            snapshot.waiting = {name: {key: event.encode() for key, event in _waiting.decode(raw).items()} for name, raw in events}
        return Loaded(snapshot, standing)

    async def load_chronicles(self, partition: int, snapshot: Snapshot, accounts: Iterable[str]) -> None:
        """All events of some accounts, with their postings and sheets, into a snapshot: for those who have an event that came late."""
        names = sorted(accounts)
        _, _, postings, _, _, _, sheets, _ = keys(partition)
        pipeline = self.client.pipeline(transaction=False)
        for name in names:
            pipeline.hgetall(f"{tag(partition)}:chronicle:{name}")
        for name, answer in zip(names, await pipeline.execute(), strict=True):
            snapshot.chronicles[name] = {key.decode(): instant.decode() for key, instant in answer.items()}
        events = [key for name in names for key in snapshot.chronicles[name]]
        for first in range(0, len(events), CHRONICLE_ROWS):
            some = events[first : first + CHRONICLE_ROWS]
            snapshot.postings |= dict(present(some, await self.client.hmget(postings, some)))
            there = present(some, await self.client.hmget(sheets, some))
            snapshot.sheets |= {name: _sheet.decode(raw) for name, raw in there if name not in snapshot.sheets}

    async def apply(self, partition: int, snapshot: Snapshot, before: Standing, after: Standing) -> None:
        """Writes what changed in `snapshot` and moves the partition from `before` to `after`, both or neither.

        Raises:
            Fenced: the partition does not stand at `before`; nothing was changed.
        """
        names = keys(partition)
        arguments = [tag(partition), before.offset, after.offset, after.ledger, after.as_of or "", changes(snapshot)]
        done, offset = await self.client.fcall("tillstream_apply", len(names), *names, *arguments)
        if not done:
            raise Fenced(partition, offset)

    async def accounts(self, partition: int) -> AsyncIterator[tuple[str, Units]]:
        """Every account of a partition; one that changes meanwhile is given as it was before or after."""
        async for name, raw in self.client.hscan_iter(keys(partition)[1]):
            yield name.decode(), _units.decode(raw)

    async def accounts_at(self, partition: int, names: Sequence[str]) -> tuple[int, dict[str, Units]]:
        """The named accounts, and the last ledger offset applied at that very moment."""
        ledger, *values = await self.client.execute_command("FCALL_RO", "tillstream_accounts", 2, *keys(partition)[:2], *names)
        return int(ledger), {name: _units.decode(raw) for name, raw in present(names, values)}

    async def known_among(self, partition: int, names: Sequence[str]) -> list[str]:
        """Those of the named accounts that hold something, or have a state of their member."""
        _, accounts, _, _, _, members, *_ = keys(partition)
        pipeline = self.client.pipeline(transaction=False)
        for name in names:
            pipeline.hexists(accounts, name)
            pipeline.hexists(members, name)
        answers = await pipeline.execute()
        return [name for name, holds, stands in zip(names, answers[::2], answers[1::2], strict=True) if holds or stands]

    async def history(self, partition: int) -> int:
        """The last ledger offset that ClickHouse has, -1 for none."""
        return int(await self.client.hget(keys(partition)[0], "history") or -1)

    async def days(self, partition: int) -> list[str]:
        """The local dates of which postings are held, earliest first."""
        return [day.decode() for day in await self.client.zrange(f"{tag(partition)}:days", 0, -1)]

    async def let_go(self, partition: int, day: str) -> list[str]:
        """Lets go of at most `DAY_KEYS_MAX` postings of a local date, if ClickHouse has them; their natural keys."""
        meta, _, postings, returned, *_ = keys(partition)
        prefix = tag(partition)
        names = [meta, postings, returned, f"{prefix}:days", f"{prefix}:day:{day}", f"{prefix}:dayledger"]
        gone = [key.decode() for key in await self.client.fcall("tillstream_let_go", len(names), *names, day)]
        return [key for key in gone if not key.startswith(RETURNED_MARK)]

    async def note_history(self, partition: int, ledger_offset: int) -> None:
        """Notes how far ClickHouse has the ledger of a partition."""
        await self.client.hset(keys(partition)[0], "history", ledger_offset)

    async def due_accounts(self, partition: int, as_of: str) -> tuple[list[str], list[str]]:
        """The dates before `as_of` on which points expired, and the accounts that held some."""
        index = f"{tag(partition)}:expiries"
        dates = [date.decode() for date in await self.client.zrange(index, "-inf", f"({as_of.replace('-', '')}", byscore=True)]
        accounts: set[bytes] = set()
        for date in dates:
            accounts |= await self.client.smembers(f"{tag(partition)}:expiry:{date}")
        return dates, sorted(account.decode() for account in accounts)

    async def forget_expiries(self, partition: int, dates: Sequence[str], stands: int) -> None:
        """Drops the index of dates that a tick has dealt with, if the partition still stands at `stands`."""
        if dates:
            names = [keys(partition)[0], f"{tag(partition)}:expiries", *(f"{tag(partition)}:expiry:{date}" for date in dates)]
            await self.client.fcall("tillstream_forget_expiries", len(names), *names, stands, *dates)


def read_standing(answer: Sequence[bytes | None]) -> Standing:
    offset, ledger, as_of = answer
    return Standing(int(offset or -1), int(ledger or -1), as_of.decode() if as_of else None)


def present(names: Sequence[str], values: Sequence[bytes | None]) -> Iterator[tuple[str, bytes]]:
    return ((name, value) for name, value in zip(names, values, strict=True) if value is not None)


def changes(snapshot: Snapshot) -> bytes:
    """The ten lists that `tillstream_apply` takes (see state.lua), in one MessagePack; of strings, since Redis's Lua reads no `bin`."""
    accounts = sorted(snapshot.changed_accounts)
    returned = sorted(snapshot.changed_returned)
    waiting = sorted(snapshot.changed_waiting)
    said = snapshot.member_texts
    days: dict[str, list[str]] = defaultdict(list)
    for key, day in snapshot.new_postings.items():
        days[day].append(key)
    for key in returned:
        days[snapshot.returned[key].day].append(RETURNED_MARK + key)
    return b"".join(
        [
            TEN,
            *texts([(name, _encode(snapshot.accounts[name])) for name in accounts]),
            *texts([(key, snapshot.postings[key]) for key in snapshot.new_postings]),
            *texts([(key, _encode(snapshot.returned[key])) for key in returned]),
            *texts([(key, waiting_text(snapshot, key)) for key in waiting]),
            _pack([(day, list(key_texts(keys))) for day, keys in days.items()]),
            _pack([(date, sorted(names)) for date, names in snapshot.noted().items()]),
            *texts([(name, said.get(name) or _encode(snapshot.members[name])) for name in sorted(snapshot.changed_members)]),
            *texts([(key, _encode(snapshot.sheets[key])) for key in sorted(snapshot.changed_sheets)]),
            _pack([(name, list(chain.from_iterable(events.items()))) for name, events in snapshot.new_events.items()]),
            _pack(list(chain.from_iterable(snapshot.budget_moves.items()))),
        ]
    )


def key_texts(keys: list[str]) -> Iterator[str]:
    """Keys one a line, at most `DAY_KEYS_MAX` in a text."""
    return ("\n".join(keys[first : first + DAY_KEYS_MAX]) for first in range(0, len(keys), DAY_KEYS_MAX))


def waiting_text(snapshot: Snapshot, key: str) -> bytes:
    """The events waiting for a sale, by natural key; empty: none any more."""
    waiting = snapshot.waiting.get(key)
    return _encode({name: event.decode() for name, event in waiting.items()}) if waiting else b""
