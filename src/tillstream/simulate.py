"""What would these events give? The same kernels and ledger as the workers', in process, no server (DESIGN.md §7)."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

import msgspec

from tillstream.kernels.holdings import NEVER, Holding, settle
from tillstream.kernels.identities import account_of, identity_hash
from tillstream.kernels.keys import key_of, occurred
from tillstream.kernels.posters import poster_for
from tillstream.kernels.routed import Outcome, Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.events import AccountEvent, EnrolledEvent, IdentityAddedEvent, Malformed, SaleEvent, TickEvent, VoidEvent, decode
from tillstream.schemas.ledger import Entry, Posting, decode_record, entries
from tillstream.schemas.program_file import Versioned
from tillstream.schemas.receipts import Sale

IDENTITY_KEY = b"tillstream simulate"
"""A simulation stores nothing, so its identity hashes need no secret."""

BATCH_ROWS = 5_000


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

    Enrolments act before everything else, wherever they stand: what an identity earned before it was enrolled is its member's in the end.
    """

    def __init__(self, program: Versioned, on_entry: Callable[[Entry], None] | None = None, deliveries: Deliveries | None = None) -> None:
        self.program = program
        self.poster = poster_for(program)
        self.snapshot = Snapshot()
        self.on_entry = on_entry
        self.deliveries = deliveries
        self.enrolled: dict[str, str] = {}
        self.events = self.accepted = self.duplicates = 0
        self.rejected: list[dict[str, Any]] = []
        self.place_of_waiting: dict[bytes, int] = {}

    def run(self, lines: Iterable[bytes]) -> None:
        """Takes a history, one event a line; blank lines are passed over."""
        routable: list[tuple[int, bytes, AccountEvent | TickEvent]] = []
        for index, raw in enumerate(line for line in lines if line.strip()):
            self.events += 1
            try:
                event = decode(raw.strip())
            except Malformed as problem:
                self.reject(index, problem)
                continue
            if isinstance(event, EnrolledEvent | IdentityAddedEvent):
                self.enrol(event)
            if not isinstance(event, IdentityAddedEvent):
                routable.append((index, raw.strip(), event))
        routable = in_order(routable)
        for first in range(0, len(routable), BATCH_ROWS):
            batch = [self.route(*item) for item in routable[first : first + BATCH_ROWS]]
            for outcome in self.poster.post(batch, self.snapshot):
                self.count(outcome)
        self.rejected.sort(key=lambda rejection: rejection["index"])

    def enrol(self, event: EnrolledEvent | IdentityAddedEvent) -> None:
        identities = event.data.identities if isinstance(event, EnrolledEvent) else [event.data.identity]
        for identity in identities:
            self.enrolled[identity_hash(identity, IDENTITY_KEY)] = event.data.member_id
        self.accepted += isinstance(event, IdentityAddedEvent)

    def route(self, index: int, raw: bytes, event: AccountEvent | TickEvent) -> Routed:
        if isinstance(event, EnrolledEvent):
            return Routed(event, event.data.member_id, index, raw)
        member = None if isinstance(event, TickEvent | VoidEvent) else event.data.member
        return Routed(event, account_of(member, IDENTITY_KEY, self.enrolled), index, raw)

    def count(self, outcome: Outcome) -> None:
        index = self.place_of_waiting.pop(outcome.routed.raw, 0) if outcome.waited else outcome.routed.offset
        if outcome.status == "waiting":
            self.place_of_waiting[outcome.routed.raw] = index
        self.accepted += outcome.status == "accepted"
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
        """The object that `simulate --json` prints; accounts and units that hold nothing are left out."""
        accounts = {
            account_id: {unit: standing(units[unit], self.snapshot.as_of) for unit in sorted(units)}
            for account_id, units in sorted(self.snapshot.accounts.items())
        }
        accounts = {
            account_id: {unit: there for unit, there in units.items() if there["balance"] or there["lots"]}
            for account_id, units in accounts.items()
        }
        return {
            "events": self.events,
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "waiting": sum(len(waiting) for waiting in self.snapshot.waiting.values()),
            "rejected": self.rejected,
            "accounts": {account_id: units for account_id, units in accounts.items() if units},
        }


def in_order(events: list[tuple[int, bytes, AccountEvent | TickEvent]]) -> list[tuple[int, bytes, AccountEvent | TickEvent]]:
    """By the instant at which the first delivery of each key says that it happened, then by key; ticks behind all of their moment."""
    first: dict[str, datetime] = {}
    placed = []
    for index, raw, event in events:
        if isinstance(event, TickEvent):
            placed.append(((event.time, True, ""), index, raw, event))
        else:
            key = key_of(event)
            placed.append(((first.setdefault(key, occurred(event)), False, key), index, raw, event))
    placed.sort(key=lambda item: item[:2])
    return [(index, raw, event) for _, index, raw, event in placed]


def ledger_entries(records: Iterable[bytes]) -> Iterator[Entry]:
    """The entries of ledger records, one by one."""
    for raw in records:
        record = decode_record(raw)
        if isinstance(record, Posting):
            yield from entries(record)


def standing(holding: Holding, as_of: str | None) -> dict[str, Any]:
    """Balance and lots of one unit, as `simulate --json` prints them."""
    lots = settle(holding, as_of).lots
    return {
        "balance": holding.balance,
        "pending": 0,
        "held": 0,
        "lots": [{"expires_on": None if expiry == NEVER else expiry, "points": points} for expiry, points in lots.items()],
    }


def entry_line(entry: Entry) -> bytes:
    """One line of `--ledger`."""
    return msgspec.json.encode(entry) + b"\n"
