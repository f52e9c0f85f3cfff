"""Why an event gave what it did: per rule what it saw and how it counted, or the first condition that did not hold (DESIGN.md §3, G7).

What `simulate --explain --json` and `explain --json` print. Amounts are minor units, quantities thousandths, dates ISO 8601.
"""

from typing import Literal

from msgspec import Struct


class Unmet(Struct, frozen=True):
    """The first condition that did not hold: its path in the rule, what the program wanted, and what was found."""

    path: str
    wanted: str
    found: str


class Cut(Struct, frozen=True):
    """A cap that cut an award: its path, what it allows per `per` (receipt, day, ..., campaign), what was used before, what it left."""

    path: str
    limit: int
    per: str
    used: int
    points: int


class Share(Struct, frozen=True):
    """What falls to one line by largest remainder: `whole` = floor(award * weight / total), and `extra`, 1 or 0, for its `remainder`."""

    line_no: int
    weight: int
    total: int
    whole: int
    remainder: int
    extra: int
    points: int


class LeftOut(Struct, frozen=True):
    """A line that a rule did not look at, though it applied to the receipt, and by which of its keys."""

    line_no: int
    unmet: Unmet


class Back(Struct, frozen=True):
    """What returns have taken back so far of a rule's points for one line, and by which formula."""

    line_no: int
    points: int
    formula: str


class RuleExplained(Struct, frozen=True):
    """One rule on one event; `unmet` says why it did not apply. Lines are line numbers; `points` is the award after its cuts.

    `gross` is what the eligible lines cost, `tender` the part of it that was paid with points, `basis` what the award looked at.
    """

    rule_id: str
    unit: str
    applied: bool
    unmet: Unmet | None = None
    lines: list[int] = []
    gross: int = 0
    tender: int = 0
    basis: int = 0
    formula: str = ""
    award: int = 0
    cuts: list[Cut] = []
    points: int = 0
    shares: list[Share] = []
    left_out: list[LeftOut] = []
    expires_on: str | None = None
    hold_days: int = 0
    back: list[Back] = []


class Bonus(Struct, frozen=True):
    """What the rules that answer to something else than a receipt made of one occasion, and what the occasion was."""

    trigger: str
    reason: str
    rules: list[RuleExplained]


class Explanation(Struct, frozen=True):
    """One event of an account and what its rules made of it; `note` says what is to be said of the whole.

    `undoes` is the receipt that a return or void is about; `bonuses` are occasions, a new tier for example, that a receipt brought about.
    """

    kind: Literal["sale", "return", "void", "bonus", "waiting"]
    source: str
    event_id: str
    receipt_id: str | None
    account_id: str | None
    occurred_at: str
    day: str
    program: str
    program_version: str | None
    currency: str
    note: str = ""
    undoes: str | None = None
    rules: list[RuleExplained] = []
    bonuses: list[Bonus] = []
