"""What would these events give? The same kernels and ledger as the workers', in process, no server (DESIGN.md §7)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from tillstream.kernels.holdings import NEVER, Holding, settle
from tillstream.kernels.identities import account_of, identity_hash
from tillstream.kernels.posters import Posters
from tillstream.kernels.routed import Outcome, Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.kernels.timetable import Timetable
from tillstream.schemas.events import EnrolledEvent, IdentityAddedEvent, Malformed, ReceiptEvent, TickEvent, VoidEvent, decode
from tillstream.schemas.ledger import Entry, Posting, decode_record, entries
from tillstream.schemas.program_file import Versioned

IDENTITY_KEY = b"tillstream simulate"
"""A simulation stores nothing, so its identity hashes need no secret."""

BATCH_ROWS = 5_000


class Simulation:
    """Runs a history and keeps the score.

    Enrolments act before everything else, wherever they stand: what an identity earned before it was enrolled is its member's in the end.
    """

    def __init__(self, program: Versioned | Timetable, on_entry: Callable[[Entry], None] | None = None) -> None:
        self.poster = Posters(program if isinstance(program, Timetable) else Timetable([program]))
        self.snapshot = Snapshot()
        self.on_entry = on_entry
        self.enrolled: dict[str, str] = {}
        self.events = self.accepted = self.duplicates = 0
        self.rejected: list[dict[str, Any]] = []
        self.place_of_waiting: dict[bytes, int] = {}

    def run(self, lines: Iterable[bytes]) -> None:
        """Takes a history, one event a line; blank lines are passed over."""
        routable: list[tuple[int, bytes, ReceiptEvent | TickEvent]] = []
        for index, raw in enumerate(line for line in lines if line.strip()):
            self.events += 1
            try:
                event = decode(raw.strip())
            except Malformed as problem:
                self.reject(index, problem)
                continue
            if isinstance(event, EnrolledEvent | IdentityAddedEvent):
                self.enrol(event)
            else:
                routable.append((index, raw.strip(), event))
        for first in range(0, len(routable), BATCH_ROWS):
            batch = [self.route(*item) for item in routable[first : first + BATCH_ROWS]]
            for outcome in self.poster.post(batch, self.snapshot):
                self.count(outcome)
        self.rejected.sort(key=lambda rejection: rejection["index"])

    def enrol(self, event: EnrolledEvent | IdentityAddedEvent) -> None:
        identities = event.data.identities if isinstance(event, EnrolledEvent) else [event.data.identity]
        for identity in identities:
            self.enrolled[identity_hash(identity, IDENTITY_KEY)] = event.data.member_id
        self.accepted += 1

    def route(self, index: int, raw: bytes, event: ReceiptEvent | TickEvent) -> Routed:
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
