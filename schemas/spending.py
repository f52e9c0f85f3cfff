"""Points that are spent or moved outside a receipt: holds, releases, redemptions, adjustments, transfers (DESIGN.md §4).

All points are integers; the unit must be one of the program's. They happen at the envelope's `time`.
"""

from datetime import date
from typing import Annotated

from msgspec import Meta, Struct

from tillstream.schemas.fields import INT64_MAX, Identifier, Instant, Integer, Label
from tillstream.schemas.receipts import Identity

PositivePoints = Annotated[int, Meta(ge=1, le=INT64_MAX)]


class Hold(Struct, frozen=True, kw_only=True, gc=False):
    """The data of `points.hold`: so many points are kept for one purchase until it takes them, gives them back, or `expires_at`."""

    hold_id: Identifier
    member: Identity
    points: PositivePoints
    expires_at: Instant
    unit: Identifier = "points"


class Release(Struct, frozen=True, kw_only=True, gc=False):
    """The data of `points.release`: a hold is given back."""

    hold_id: Identifier
    member: Identity


class Redeem(Struct, frozen=True, kw_only=True, gc=False):
    """The data of `points.redeem`: points buy a reward."""

    redemption_id: Identifier
    member: Identity
    points: PositivePoints
    unit: Identifier = "points"
    reward: Label | None = None
    hold_id: Identifier | None = None


class Adjust(Struct, frozen=True, kw_only=True, gc=False):
    """The data of `points.adjust`: somebody corrects a balance, says why and who; `expires_on` for points that are given."""

    adjustment_id: Identifier
    member: Identity
    points: Integer
    reason: Annotated[str, Meta(min_length=1, max_length=1000)]
    actor: Identifier
    unit: Identifier = "points"
    expires_on: date | None = None


class Transfer(Struct, frozen=True, kw_only=True, gc=False):
    """The data of `points.transfer`: points move to another member of the household, with their expiry dates."""

    transfer_id: Identifier
    member: Identity
    to: Identity
    points: PositivePoints
    unit: Identifier = "points"


class TransferredLot(Struct, frozen=True, array_like=True, gc=False):
    """Points that keep their last day of use when they move to another account; null: never."""

    expires_on: date | None
    points: PositivePoints


class Transferred(Struct, frozen=True, kw_only=True, gc=False):
    """The data of `points.transferred`, our own event: what a transfer took from one account and brings to another."""

    transfer_id: Identifier
    unit: Identifier
    lots: list[TransferredLot]
    from_account: str
    to_account: str
