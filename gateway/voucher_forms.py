"""What tills say of vouchers, and what they are told: the JSON bodies of `/v1/vouchers/...`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from tillstream.kernels.vouchers import Standing
from tillstream.schemas.fields import Identifier, Instant
from tillstream.schemas.offers import Worth
from tillstream.schemas.receipts import Identity

CODE_CHARS_MAX = 64
"""A code with whatever hyphens and blanks stand in it."""

RESERVED_S = 900
"""A quarter of an hour: longer than a basket stands at a till, shorter than a customer waits who went to another one."""

RESERVED_S_MAX = 86_400

Code = Annotated[str, Meta(min_length=1, max_length=CODE_CHARS_MAX)]


class CheckVoucherBody(Struct, frozen=True, kw_only=True):
    """A code as it was typed or scanned; `member`: who buys, as far as the till knows."""

    code: Code
    member: Identity | None = None


class VoucherBody(Struct, frozen=True, kw_only=True):
    """A code, and whose reservation it is: the store's, under an id of its own for each purchase, best the receipt's."""

    code: Code
    store_id: Identifier
    reservation_id: Identifier


class ReserveVoucherBody(VoucherBody, frozen=True, kw_only=True):
    """A code to keep for one purchase, for so many seconds; after them it is free again."""

    member: Identity | None = None
    seconds: Annotated[int, Meta(ge=1, le=RESERVED_S_MAX)] = RESERVED_S


class RedeemVoucherBody(VoucherBody, frozen=True, kw_only=True):
    """A code to use up; the same reservation may be redeemed again for the same receipt only, which is the first time once more."""

    member: Identity | None = None
    receipt_id: Identifier | None = None


class ReleaseVoucherBody(VoucherBody, frozen=True, kw_only=True):
    """A reservation to end; `returned_by`, the receipt of a return or void, gives back what it had redeemed as well."""

    returned_by: Identifier | None = None


class VoucherTold(Struct, frozen=True, kw_only=True):
    """How a code stands.

    `outcome`: usable: it was only looked at; accepted: what was asked for is done; duplicate: it had been done before; pending: it is on
    its way, and no worker has answered yet: ask the same again. What is not known yet is null. `of_member`: whether it is one member's.
    """

    outcome: Literal["usable", "accepted", "duplicate", "pending"]
    standing: Standing | None = None
    series: str | None = None
    worth: Worth | None = None
    valid_until: Instant | None = None
    of_member: bool | None = None
    reserved_until: Instant | None = None
