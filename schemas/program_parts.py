"""What the parts of a program file share: field types, conditions on goods, and on who a member is."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from tillstream.schemas.fields import Identifier

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ClockTime = Annotated[str, Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$", max_length=5, description="HH:MM, local.")]
MonthDay = Annotated[str, Meta(pattern="^(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$", max_length=5, description="MM-DD.")]
Positive = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Percent = Annotated[int, Meta(ge=0, le=100)]
Period = Literal["day", "week", "month", "quarter", "year"]
Trigger = Annotated[str, Meta(pattern=r"^(receipt|enrolled|birthday|tier_up|balance|period_end|activity\.[a-z0-9_.]+)$")]
"""What a rule answers to; `activity.review` and the like name an event type."""

Patterns = Annotated[list[str], Meta(min_length=1)]
"""Globs: `*` stays inside one segment, `**` spans any number of segments."""

Budget = Annotated[int, Meta(ge=0, le=2**53)]
"""Redis' Lua counts exactly so far."""


class Goods(Struct, frozen=True, forbid_unknown_fields=True):
    """Which lines: every key must match, by any of its values."""

    sku: Patterns | None = None
    category: Patterns | None = None
    brand: Patterns | None = None
    kind: Patterns | None = None


class Who(Struct, frozen=True, forbid_unknown_fields=True):
    """Conditions on who a member is: its tier, and what its enrolment says."""

    tier: Annotated[list[Identifier], Meta(min_length=1)] | None = None
    segment: Annotated[list[str], Meta(min_length=1)] | None = None
    kind: Annotated[list[Literal["consumer", "retailer"]], Meta(min_length=1)] | None = None
    attributes: dict[str, list[str | int | bool]] | None = None
