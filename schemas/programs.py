"""A program: a versioned set of rules, units and groups in one TOML file (DESIGN.md §6).

Amounts are minor units of the program's currency. Decimals are exact: TOML's are read as `Decimal`, never as floats.
"""

from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from msgspec import Meta, Struct

from tillstream.schemas.fields import Currency, Identifier, Natural

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ClockTime = Annotated[str, Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$", max_length=5, description="HH:MM, local.")]
MonthDay = Annotated[str, Meta(pattern="^(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$", max_length=5, description="MM-DD.")]
Positive = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Patterns = Annotated[list[str], Meta(min_length=1)]
"""Globs: `*` stays inside one segment, `**` spans any number of segments."""


class Head(Struct, frozen=True, forbid_unknown_fields=True):
    """What the program is called, its currency, and the time zone in which its days begin."""

    id: Identifier
    currency: Currency
    time_zone: str
    effective_from: date | None = None


class Expires(Struct, frozen=True, forbid_unknown_fields=True):
    """When points expire, counted from the local date of `issued_at`: exactly one of the first three."""

    after_days: Positive | None = None
    after_months: Positive | None = None
    fixed_dates: Annotated[list[MonthDay], Meta(min_length=1)] | None = None
    at: Literal["day", "month_end", "quarter_end", "year_end"] = "day"


class Unit(Struct, frozen=True, forbid_unknown_fields=True):
    """What is counted: points, stamps, ..."""

    expires: Expires | None = None
    negative_balance: Literal["debt"] = "debt"


class Group(Struct, frozen=True, forbid_unknown_fields=True):
    """How the rules of one group share a receipt."""

    stacking: Literal["all", "best", "first"] = "all"


class When(Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Conditions on the receipt as a whole, at `issued_at` in the program's time zone."""

    weekday: Annotated[list[Weekday], Meta(min_length=1)] | None = None
    hours: tuple[ClockTime, ClockTime] | None = None
    from_: date | None = None
    to: date | None = None
    store: Patterns | None = None
    min_amount: Natural | None = None
    min_positions: Natural | None = None


class Goods(Struct, frozen=True, forbid_unknown_fields=True):
    """Which lines: every key must match, by any of its values."""

    sku: Patterns | None = None
    category: Patterns | None = None
    brand: Patterns | None = None
    kind: Patterns | None = None


class Lines(Goods, frozen=True, forbid_unknown_fields=True):
    """The eligible lines, and what they must come to in all."""

    min_amount: Natural | None = None
    min_quantity_milli: Natural | None = None


class Award(Struct, frozen=True, forbid_unknown_fields=True):
    """How many points: one of the six forms of DESIGN.md §5, told apart by their keys."""

    points: Decimal | None = None
    per_amount: Positive | None = None
    per_item: Positive | None = None
    per_line: Positive | None = None
    fixed: Natural | None = None
    steps: Annotated[list[tuple[Natural, Natural]], Meta(min_length=1)] | None = None
    multiply: Decimal | None = None
    of: Identifier | None = None


class Cap(Struct, frozen=True, forbid_unknown_fields=True):
    """What cuts an award."""

    per_receipt: Natural | None = None


class Rule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One way of earning."""

    id: Identifier
    award: Award
    unit: Identifier = "points"
    when: When = When()
    lines: Lines = Lines()
    exclude: Goods = Goods()
    rounding: Literal["floor", "half_up", "ceil"] = "floor"
    priority: int = 100
    group: Identifier | None = None
    exclusive: bool = False
    cap: Cap = Cap()
    earn_on_points_tender: bool = False


class Program(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    program: Head
    units: dict[Identifier, Unit]
    rules: list[Rule]
    groups: dict[Identifier, Group] = {}


def ordered(rules: list[Rule]) -> list[Rule]:
    """Rules in the order in which they are judged: (`priority`, position in the file)."""
    return sorted(rules, key=lambda rule: rule.priority)


def award_form(award: Award) -> str | None:
    """The form that the keys of `award` spell, or None where they spell none."""
    given = frozenset(key for key in award.__struct_fields__ if getattr(award, key) is not None)
    return AWARD_FORMS.get(given)


AWARD_FORMS = {
    frozenset({"points", "per_amount"}): "per_amount",
    frozenset({"points", "per_item"}): "per_item",
    frozenset({"points", "per_line"}): "per_line",
    frozenset({"fixed"}): "fixed",
    frozenset({"steps"}): "steps",
    frozenset({"multiply", "of"}): "multiply",
}
