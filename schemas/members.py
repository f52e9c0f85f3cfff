"""Who takes part: enrolments and identities (DESIGN.md §4)."""

from datetime import date
from typing import Any, Literal

from msgspec import Struct

from tillstream.schemas.fields import Identifier
from tillstream.schemas.receipts import Identity


class Enrolled(Struct, frozen=True, kw_only=True):
    """The data of `member.enrolled`."""

    member_id: Identifier
    kind: Literal["consumer", "retailer"] = "consumer"
    identities: list[Identity] = []
    birth_date: date | None = None
    household_id: Identifier | None = None
    attributes: dict[str, Any] = {}
    consents: dict[str, Any] = {}


class IdentityAdded(Struct, frozen=True, kw_only=True):
    """The data of `member.identity_added`."""

    member_id: Identifier
    identity: Identity


class Tick(Struct, frozen=True, kw_only=True):
    """The data of `clock.tick`: everything that falls due by `date` is due."""

    date: date
