"""Events of vouchers, for tests: a batch of two codes on a March day, and what tills do with them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tillstream.kernels.vouchers import Vouchers
from tillstream.schemas.offers import Worth
from tillstream.schemas.vouchers import (
    VOUCHERS_SOURCE,
    ClaimEvent,
    Issued,
    IssuedEvent,
    Redeemed,
    RedeemedEvent,
    Released,
    ReleasedEvent,
    Reserved,
    ReservedEvent,
    Revoked,
    RevokedEvent,
    VoucherEvent,
)

NOON = datetime(2026, 3, 7, 12, tzinfo=UTC)
ENDS = datetime(2026, 4, 1, tzinfo=UTC)
A, B = "a" * 32, "b" * 32
HELD_S = 900


def at(seconds: float) -> datetime:
    """So many seconds after noon."""
    return NOON + timedelta(seconds=seconds)


def issued(*digests: str, series: str = "spring", batch: str = "1", fingerprint: str = "f" * 32, **fields: Any) -> IssuedEvent:
    given = {"worth": Worth(amount_off=500, currency="PLN"), "valid_until": ENDS, "codes": 2, "block": 0} | fields
    data = Issued(series=series, batch=batch, fingerprint=fingerprint, digests=list(digests or (A, B)), **given)
    return IssuedEvent(id=f"{series}/{batch}/{data.block}", source=VOUCHERS_SOURCE, time=at(-3600), data=data)


def claim(
    kind: str, reservation_id: str = "r1", seconds: float = 0, digest: str = A, till: str = "tills/PL-0001", **fields: Any
) -> ClaimEvent:
    """`kind`: reserve, redeem or release."""
    envelope: Any = {"id": f"{kind}-{reservation_id}-{seconds}", "source": till, "time": at(seconds)}
    named: Any = {"digest": digest, "reservation_id": reservation_id, **fields}
    if kind == "reserve":
        return ReservedEvent(**envelope, data=Reserved(until=at(seconds + HELD_S), **named))
    if kind == "redeem":
        return RedeemedEvent(**envelope, data=Redeemed(**named))
    return ReleasedEvent(**envelope, data=Released(**named))


def revoked(seconds: float = 0, **fields: Any) -> RevokedEvent:
    data = Revoked(series="spring", **fields)
    return RevokedEvent(id=f"revoke-{seconds}", source=VOUCHERS_SOURCE, time=at(seconds), data=data)


def taken(*events: VoucherEvent) -> list[str]:
    """What becomes of events, one after the other, from nothing."""
    vouchers = Vouchers({}, {})
    return [vouchers.take(event) for event in events]
