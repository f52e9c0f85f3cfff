"""What would these events give? The same kernels and ledger as the workers', in process, no server (DESIGN.md §7)."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from itertools import groupby
from typing import Any

import msgspec

from tillstream.kernels.facts import fact_of
from tillstream.kernels.holdings import NEVER, Holding, Units, settle, sum_of
from tillstream.kernels.identities import Seal
from tillstream.kernels.keys import digest_of, key_of, occurred
from tillstream.kernels.posters import Posters
from tillstream.kernels.registry import Registry, circular_merge
from tillstream.kernels.routed import Outcome, Routed
from tillstream.kernels.sealing import seal_event
from tillstream.kernels.set_aside import held_points, pending_points
from tillstream.kernels.snapshot import Snapshot
from tillstream.kernels.timetable import Timetable
from tillstream.midnights import Midnights
from tillstream.schemas.events import (
    ROUTED_BYTES_MAX,
    AccountEvent,
    Malformed,
    MemberEvent,
    MergedEvent,
    MergeEvent,
    ProfileEvent,
    ReturnEvent,
    SaleEvent,
    SpendingEvent,
    TakeoverEvent,
    TickEvent,
    TransferEvent,
    TransferredEvent,
    UnmergedEvent,
    VoidEvent,
    decode,
    decode_from_outside,
)
from tillstream.schemas.ledger import Entry, Posting, decode_record, entries
from tillstream.schemas.program_file import Versioned
from tillstream.schemas.receipts import Identity, Sale

IDENTITY_KEY = b"tillstream simulate"
"""A simulation stores nothing, so its identity hashes need no secret."""

BATCH_ROWS = 5_000

Routable = AccountEvent | TickEvent

TOLD = ProfileEvent | MergeEvent
"""Member events that accounts are told of."""


class Deliveries:
    """What explanations need to know besides the ledger: the sales themselves, and what came of everything else of their key."""

    def __init__(self) -> None:
        self.sales: dict[str, Sale] = {}
        self.duplicates: Counter[str] = Counter()
        self.refused: dict[str, list[tuple[AccountEvent, Malformed]]] = {}

    def note(self, outcome: Outcome) -> None:
        routed = outcome.routed
        if isinstance(routed.event, TickEvent):
            return
        if outcome.problem is not None:
            self.refused.setdefault(routed.key, []).append((routed.event, outcome.problem))
        elif outcome.status == "duplicate":
            self.duplicates[routed.key] += 1
        elif isinstance(routed.event, SaleEvent):
            self.sales[routed.key] = routed.event.data


class Simulation:
    """Runs a history and keeps the score.

    Member events act before everything else, wherever they stand, each from its own time on (kernels/registry.py): what an identity earned
    before it was enrolled is its member's in the end. `phone_region` is the setting of that name.
    """

    def __init__(
        self,
        program: Versioned | Timetable,
        on_entry: Callable[[Entry], None] | None = None,
        phone_region: str = "",
        deliveries: Deliveries | None = None,
    ) -> None:
        self.seal = Seal(IDENTITY_KEY, phone_region)
        self.registry = Registry()
        self.digests: dict[str, str] = {}
        self.poster = Posters(program if isinstance(program, Timetable) else Timetable([program]))
        self.snapshot = Snapshot()
        self.on_entry = on_entry
        self.deliveries = deliveries
        self.events = self.accepted = self.duplicates = 0
        self.rejected: list[dict[str, Any]] = []
        self.place_of_waiting: dict[bytes, int] = {}

    def run(self, lines: Iterable[bytes]) -> None:
        """Takes a history, one event a line; blank lines are passed over."""
        routable: list[tuple[int, bytes, Routable]] = []
        members: list[tuple[int, bytes, MemberEvent]] = []
        for index, line in enumerate(line for line in lines if line.strip()):
            self.events += 1
            try:
                event, raw = seal_event(decode_from_outside(line.strip()), line.strip(), self.seal)
            except Malformed as problem:
                self.reject(index, problem)
                continue
            if isinstance(event, MemberEvent):
                members.append((index, raw, event))
            else:
                routable.append((index, raw, event))
        routable += self.enrol(members)
        ticks = [(index, raw, event) for index, raw, event in routable if isinstance(event, TickEvent)]
        midnights = Midnights(ticks, self.poster.timetable.zone)
        self.accepted += len(ticks)
        enders = (TransferEvent, MergedEvent, UnmergedEvent, *((ReturnEvent, VoidEvent) if self.snapshot.groups else ()))
        for day, some in batches(in_order(routable), midnights, enders):
            self.post_each(midnights.until(day, self.snapshot))
            self.post([self.route(*item) for item in some])
        self.post_each(midnights.rest(self.snapshot))
        self.rejected.sort(key=lambda rejection: rejection["index"])

    def post_each(self, ticks: Iterable[Routed]) -> None:
        """Posts one by one: what one makes due may decide what the next does."""
        for tick in ticks:
            self.post([tick])

    def post(self, batch: list[Routed], *, ours: bool = False) -> None:
        """Posts a batch, then what follows from it on other accounts: events of our own, which nobody sent."""
        following = []
        for outcome in self.poster.post(batch, self.snapshot):
            self.count(outcome)
            self.accepted += outcome.status == "accepted" and not ours and not isinstance(outcome.routed.event, TickEvent)
            for follow in outcome.follow:
                event: SpendingEvent | TakeoverEvent = decode(follow.raw, ROUTED_BYTES_MAX)  # type: ignore[assignment]
                following.append(Routed(event, follow.account_id, outcome.routed.offset, follow.raw))
        if following:
            self.post(following, ours=True)

    def enrol(self, events: Iterable[tuple[int, bytes, MemberEvent]]) -> list[tuple[int, bytes, Routable]]:
        """Who is who, and by that which accounts together are what a member has; the events that their accounts are told of."""
        accepted: list[tuple[int, bytes, MemberEvent]] = []
        for index, raw, event in events:
            digest = digest_of(event)
            known = self.digests.setdefault(key_of(event), digest)
            if known != digest:
                self.reject(index, Malformed("conflict", "$.data", "the event is known with other data"))
            elif self.registry.take(event) == "same":
                self.duplicates += 1
            else:
                accepted.append((index, raw, event))
        refused = self.registry.merges().refused
        circular: set[int] = set()
        for index, _, event in accepted:
            if isinstance(event, MergedEvent) and fact_of(event).order in refused:
                self.reject(index, circular_merge(event))
                circular.add(index)
            else:
                self.accepted += not isinstance(event, TOLD)
        self.snapshot.groups = self.registry.groups()
        return [(index, raw, event) for index, raw, event in accepted if isinstance(event, TOLD) and index not in circular]

    def route(self, index: int, raw: bytes, event: Routable) -> Routed:
        """An event on its way to its account; a transfer is told the receiver's, if they are of one household."""
        if isinstance(event, TickEvent | VoidEvent | TransferredEvent | TakeoverEvent):
            return Routed(event, None, index, raw)
        if isinstance(event, MergeEvent):
            return Routed(event, event.data.from_, index, raw)
        if isinstance(event, TransferEvent):
            giver, receiver = self.registry.transfer_of(event)
            return Routed(msgspec.structs.replace(event, toaccountid=receiver), giver, index, raw)
        if isinstance(event, ProfileEvent):
            event = self.registry.known_as(event)
        member = Identity("member", event.data.member_id) if isinstance(event, ProfileEvent) else event.data.member
        account = None if member is None else self.registry.account_at(member, occurred(event))
        return Routed(event, account, index, raw)

    def count(self, outcome: Outcome) -> None:
        index = self.place_of_waiting.pop(outcome.routed.raw, 0) if outcome.waited else outcome.routed.offset
        if outcome.status == "waiting":
            self.place_of_waiting[outcome.routed.raw] = index
        self.duplicates += outcome.status == "duplicate"
        if outcome.problem is not None:
            self.reject(index, outcome.problem)
        if self.deliveries is not None:
            self.deliveries.note(outcome)
        if self.on_entry is not None:
            for entry in ledger_entries(outcome.records):
                self.on_entry(entry)

    def reject(self, index: int, problem: Malformed) -> None:
        self.rejected.append({"index": index, "code": problem.code, "path": problem.path, "message": problem.message})

    def result(self) -> dict[str, Any]:
        """The object that `simulate --json` prints; a group's accounts are one; accounts and units that hold nothing are left out.

        Where there are tiers, `tiers` has the level of each account that is on one.
        """
        groups: dict[str, list[Units]] = defaultdict(list)
        for account_id, units in self.snapshot.accounts.items():
            groups[self.snapshot.groups.get(account_id, [account_id])[0]].append(units)
        accounts = {
            account_id: {unit: standing(holding, self.snapshot.as_of) for unit, holding in sorted(sum_of(held).items())}
            for account_id, held in sorted(groups.items())
        }
        accounts = {
            account_id: {unit: there for unit, there in units.items() if any(there.values())}
            for account_id, units in accounts.items()
        }
        return {
            "events": self.events,
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "waiting": sum(len(waiting) for waiting in self.snapshot.waiting.values()),
            "rejected": self.rejected,
            "accounts": {account_id: units for account_id, units in accounts.items() if units},
            **({"tiers": tiers} if (tiers := self.tiers()) else {}),
        }

    def tiers(self) -> dict[str, str]:
        """The level of each account that has one and is not merged into another; of programs without tiers, nothing."""
        there = sorted(self.snapshot.members.items())
        return {account_id: member.tier for account_id, member in there if member.tier and not member.into}


def in_order(events: list[tuple[int, bytes, Routable]]) -> list[tuple[datetime, tuple[int, bytes, Routable]]]:
    """By the instant at which the first delivery of each key says that it happened, then by key; ticks have no place of their own."""
    first: dict[str, datetime] = {}
    placed: list[tuple[datetime, str, int, bytes, Routable]] = []
    for index, raw, event in events:
        if not isinstance(event, TickEvent):
            key = key_of(event)
            placed.append((first.setdefault(key, occurred(event)), key, index, raw, event))
    placed.sort(key=lambda item: item[:3])
    return [(instant, (index, raw, event)) for instant, _, index, raw, event in placed]


def batches(
    events: list[tuple[datetime, tuple[int, bytes, Routable]]], midnights: Midnights, enders: tuple[type, ...]
) -> Iterator[tuple[date, list[tuple[int, bytes, Routable]]]]:
    """Some events of one date at a time; `enders` end a batch, since what follows from them comes before anything else."""
    for day, those in groupby(events, key=lambda placed: midnights.day_of(placed[0])):
        batch: list[tuple[int, bytes, Routable]] = []
        for _, item in those:
            batch.append(item)
            if len(batch) >= BATCH_ROWS or isinstance(item[2], enders):
                yield day, batch
                batch = []
        if batch:
            yield day, batch


def ledger_entries(records: Iterable[bytes]) -> Iterator[Entry]:
    """The entries of ledger records, one by one."""
    for raw in records:
        record = decode_record(raw)
        if isinstance(record, Posting):
            yield from entries(record)


def standing(holding: Holding, as_of: str | None) -> dict[str, Any]:
    """Balance, what is set aside, and lots of one unit, as `simulate --json` prints them."""
    lots = settle(holding, as_of).lots
    return {
        "balance": holding.balance,
        "pending": pending_points(holding),
        "held": held_points(holding),
        "lots": [{"expires_on": None if expiry == NEVER else expiry, "points": points} for expiry, points in lots.items()],
    }


def entry_line(entry: Entry) -> bytes:
    """One line of `--ledger`."""
    return msgspec.json.encode(entry) + b"\n"
