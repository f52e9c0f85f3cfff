"""What callers get back, as types: the JSON bodies of answers, and their pages in the OpenAPI document.

Money is minor units of `currency`, points are integers, dates ISO 8601; names are those of the ledger (schemas/ledger.py).
"""

from typing import Literal

from msgspec import Struct

from tillstream.gateway.problems import Problem
from tillstream.schemas.ledger import EntryKind


class Lot(Struct, frozen=True):
    """Points that expire on the same day; null: never."""

    expires_on: str | None
    points: int


class Balance(Struct, frozen=True):
    """What somebody has of one unit.

    `balance` is what the ledger says, below zero in debt; `spendable` what can be spent today, `worth` the minor units that this pays
    (null: the program puts no price on it); `pending` waits for its holding period, `held` for a purchase; `lots` are spent from the front.
    """

    unit: str
    balance: int
    spendable: int
    worth: int | None
    pending: int
    held: int
    lots: list[Lot]


class Identified(Struct, frozen=True):
    """Who somebody is to a cashier: a first name, or what they showed, masked; somebody unknown has nothing, in the same words.

    `snapshot`, where it was asked for, is for quotes while Redis does not answer; null: none is given.
    """

    name: str
    tier: str | None
    currency: str
    balances: list[Balance]
    snapshot: str | None = None


class Entry(Struct, frozen=True):
    """One movement of points; `line_no` is the sale's line, null where it is nobody's; `rule_id` the rule that gave or takes back."""

    line_no: int | None
    kind: EntryKind
    unit: str
    points: int
    rule_id: str | None
    expires_on: str | None


class Payable(Struct, frozen=True):
    """How many points of a unit may pay a basket: from `least` to `most`, in whole steps of `step` points, each worth `step_amount`.

    `most` 0: none may. Without a price in the program a step is one point, and `step_amount` null.
    """

    unit: str
    least: int
    most: int
    step: int
    step_amount: int | None


class Quoted(Struct, frozen=True):
    """What a basket would do if it were sold now: nothing of it has happened. `earns` has sums by unit.

    `stale`: Redis did not answer, and all of it, balances included, is as of the moment `as_of`, when the caller's snapshot was made.
    `snapshot`, where it was asked for, is what the caller may send then; null: none is given.
    """

    program_version: str | None
    earns: dict[str, int]
    entries: list[Entry]
    payable: list[Payable]
    tier: str | None
    balances: list[Balance]
    stale: bool = False
    as_of: str | None = None
    snapshot: str | None = None


class Outcome(Struct, frozen=True):
    """What became of an event.

    accepted: the ledger has it, its points are usable; duplicate: it had come before, and this is what came of it then; waiting: it is
    kept until its sale comes; pending: it is kept, and no worker has answered yet: ask at `status`; spooled: the same, and it waits on disk
    for Kafka to come back; refused: `problem` says why.
    `entries` are what it moved, `balances` what its member has now, in order of the program's units.
    """

    outcome: Literal["accepted", "duplicate", "waiting", "pending", "spooled", "refused"]
    status: str
    entries: list[Entry] = []
    tier: str | None = None
    balances: list[Balance] = []
    problem: Problem | None = None


class Outcomes(Struct, frozen=True):
    """One outcome per event of a batch, in its order."""

    outcomes: list[Outcome]


class Taken(Struct, frozen=True):
    """How many events of a batch Kafka has, and what was wrong with the others; `path` tells which they were."""

    accepted: int
    refused: list[Problem]


class Line(Struct, frozen=True):
    """One ledger entry of a statement, and why it is there."""

    entry_id: str
    occurred_at: str
    day: str
    kind: EntryKind
    unit: str
    points: int
    source: str
    receipt_id: str | None
    line_no: int | None
    rule_id: str | None
    expires_on: str | None
    reverses: str | None
    reason: str


class Statement(Struct, frozen=True):
    """A member's ledger entries, the latest first.

    `next` is the cursor of the page after this one, null at the end. `complete`: history has everything that moved these points; else the
    latest seconds are still on their way there.
    """

    lines: list[Line]
    next: str | None
    complete: bool


class Health(Struct, frozen=True):
    """The process runs."""

    status: Literal["ok"] = "ok"


class Readiness(Struct, frozen=True):
    """Whether requests can be answered now, and what each server behind says; `spooled` receipts wait on disk for Kafka.

    `worker`: one that gives points was alive within the last ten seconds. Without, receipts are kept and answered 202, and everything
    else is as ever, so it does not count for `ready`.
    """

    ready: bool
    redis: bool
    kafka: bool
    replies: bool
    worker: bool
    spooled: int
