"""What the topic `vouchers` carries: single-use codes, issued in blocks, and what was done with them. No code is in it, only keyed hashes.

    voucher.issued      codes of a batch of a series, a block at a time
    voucher.reserved    kept for one purchase, until an instant       ┐
    voucher.redeemed    used up                                       │ by a till, under its reservation
    voucher.released    given back                                    ┘
    voucher.revoked     one code, a batch or a series is worth nothing any more

The topic has one order. An event counts if it is lawful after those before it (kernels/vouchers.py); one that came second changes nothing.
Whose a reservation is say `source` of the event and `reservation_id`.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from tillstream.schemas.events import Malformed, check_year
from tillstream.schemas.fields import Identifier, Instant, Label, Natural
from tillstream.schemas.offers import Worth, decoded

VOUCHERS_SOURCE = "tillstream/vouchers"
"""`source` of what was issued and revoked."""

BLOCK_CODES_MAX = 1_000
"""Codes in one record: some 35 kB."""

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
"""Of a series or a batch: fit for a file's name, an address and a command line."""

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", max_length=32, description="A code's keyed hash.")]


class Issued(Struct, frozen=True, kw_only=True, gc=False):
    """Codes of a batch; the terms stand in every block, and those of the batch's first one count.

    Attributes:
        codes: how many the batch has in all.
        fingerprint: of all its codes; a block with another one is of another run under the same name, and changes nothing.
        block: number of the block, from 0.
        members: whose the codes are, in their order; empty: whoever brings them.
    """

    series: Name
    batch: Name
    worth: Worth
    valid_from: Instant | None = None
    valid_until: Instant
    codes: Natural
    fingerprint: Digest
    block: Natural
    digests: Annotated[list[Digest], Meta(min_length=1, max_length=BLOCK_CODES_MAX)]
    members: Annotated[list[Identifier], Meta(max_length=BLOCK_CODES_MAX)] = []


class Reserved(Struct, frozen=True, kw_only=True, gc=False):
    """A code kept for one purchase up to `until`; `member_id`: who buys, as far as the till knows."""

    digest: Digest
    reservation_id: Identifier
    until: Instant
    member_id: Identifier | None = None


class Redeemed(Struct, frozen=True, kw_only=True, gc=False):
    """A code used up; it need not have been reserved."""

    digest: Digest
    reservation_id: Identifier
    member_id: Identifier | None = None
    receipt_id: Identifier | None = None


class Released(Struct, frozen=True, kw_only=True, gc=False):
    """A reservation that ends; `returned_by`, the receipt of a return or void, gives back what it had redeemed as well."""

    digest: Digest
    reservation_id: Identifier
    returned_by: Identifier | None = None


class Revoked(Struct, frozen=True, kw_only=True, gc=False):
    """One code (`digest`), a batch (`batch`), or all batches that the series has by then."""

    series: Name
    batch: Name | None = None
    digest: Digest | None = None
    reason: Label = ""


class VoucherEnvelope(Struct, frozen=True, kw_only=True, gc=False, tag_field="type"):
    """The attributes of a CloudEvent; `replyto` names who waits for what becomes of it (schemas/replies.py)."""

    specversion: Literal["1.0"] = "1.0"
    id: Identifier
    source: Identifier
    time: Instant
    replyto: Identifier | None = None


class IssuedEvent(VoucherEnvelope, frozen=True, kw_only=True, gc=False, tag="voucher.issued"):
    data: Issued


class ReservedEvent(VoucherEnvelope, frozen=True, kw_only=True, gc=False, tag="voucher.reserved"):
    data: Reserved


class RedeemedEvent(VoucherEnvelope, frozen=True, kw_only=True, gc=False, tag="voucher.redeemed"):
    data: Redeemed


class ReleasedEvent(VoucherEnvelope, frozen=True, kw_only=True, gc=False, tag="voucher.released"):
    data: Released


class RevokedEvent(VoucherEnvelope, frozen=True, kw_only=True, gc=False, tag="voucher.revoked"):
    data: Revoked


ClaimEvent = ReservedEvent | RedeemedEvent | ReleasedEvent
"""What a till does with one code."""

VoucherEvent = IssuedEvent | ReservedEvent | RedeemedEvent | ReleasedEvent | RevokedEvent

_decoder = msgspec.json.Decoder(VoucherEvent)


def decode_voucher(raw: bytes) -> VoucherEvent:
    """The typed event of the topic `vouchers` in `raw`.

    Raises:
        Malformed: the bytes are no such event; `path` is as precise as the fault allows, `$` for the whole.
    """
    event: VoucherEvent = decoded(_decoder, raw)
    if isinstance(event, IssuedEvent):
        check_year("$.data.valid_until", event.data.valid_until)
        if event.data.members and len(event.data.members) != len(event.data.digests):
            raise Malformed("invalid", "$.data.members", f"{len(event.data.members)} members, {len(event.data.digests)} codes")
    return event


def encode_voucher(event: VoucherEvent) -> bytes:
    """The record's bytes."""
    return msgspec.json.encode(event)
