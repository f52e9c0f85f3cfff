"""What becomes of vouchers, event by event, in the order of their topic: of each code, whose it is and whether it is used up.

    free ─ reserved ─► held by its owner until an instant, then free again ─ redeemed ─► used up, for ever
      ▲ ─ redeemed ───────────────────────────────────────────────────────────────────►┘    │
      └── released, by the owner ◄──────────────── released, by the owner, for a return ◄───┘

In: what is known of the codes and batches that an event names. Out: the same afterwards, and `accepted`, `duplicate` (its owner has that
already) or the reason why it changes nothing. The owner of a reservation is (source, reservation_id). Who has given a code back gets it no
more under that name, so a request that was under way meanwhile does not take it again.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, get_args

from msgspec import Struct, structs

from tillstream.schemas.offers import Worth
from tillstream.schemas.vouchers import ClaimEvent, Issued, IssuedEvent, RedeemedEvent, ReleasedEvent, Revoked, VoucherEvent

Reason = Literal["unknown", "expired", "not_yet_valid", "reserved", "redeemed", "released", "revoked", "not_this_member", "issued"]
"""Why an event changes nothing; `issued`: the batch is known with other codes."""

Status = Literal["accepted", "duplicate"] | Reason

Standing = Literal["free", "released", "reserved", "redeemed", "expired", "revoked"]
"""What a code is at an instant, each exactly one; `released`: free, and was given back."""

STANDINGS: tuple[Standing, ...] = get_args(Standing)

SWEPT_AFTER = timedelta(days=400)
"""After the last day of a batch its codes are told `expired`, and returns of their receipts come in, for more than a year."""

GIVEN_BACK_MAX = 8
"""Owners remembered that gave a code back: a till's late repeats come within minutes, and nobody gives one back often."""


class Owner(NamedTuple):
    """Whose a reservation is: the till's `source`, and what it calls the purchase."""

    source: str
    reservation_id: str


NOBODY = Owner("", "")
"""Who only looks."""


class Batch(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The terms of a batch, as its first block had them; `codes` by its announcement, `issued` counted."""

    series: str
    batch: str
    worth: Worth
    valid_from: datetime | None = None
    valid_until: datetime
    codes: int
    fingerprint: str
    issued: int = 0
    revoked_at: datetime | None = None


class Voucher(Struct, frozen=True, omit_defaults=True):
    """One code: its batch, by name; whose it is; held by `owner` up to `until`, or used up by it."""

    batch: str
    member_id: str | None = None
    owner: Owner | None = None
    until: datetime | None = None
    redeemed_at: datetime | None = None
    receipt_id: str | None = None
    revoked_at: datetime | None = None
    given_back: tuple[Owner, ...] = ()


class Vouchers:
    """Codes by their digests, batches by their names, and which of both have changed."""

    def __init__(self, codes: dict[str, Voucher], batches: dict[str, Batch]) -> None:
        self.codes = codes
        self.batches = batches
        self.changed_codes: set[str] = set()
        self.changed_batches: set[str] = set()

    def take(self, event: VoucherEvent) -> Status:
        """What becomes of an event."""
        if isinstance(event, IssuedEvent):
            return self._issue(event.data)
        if isinstance(event, ClaimEvent):
            return self._claim(event)
        return self._revoke(event.data, event.time)

    def _issue(self, data: Issued) -> Status:
        name = batch_name(data.series, data.batch)
        batch = self.batches.get(name) or batch_of(data)
        if batch.fingerprint != data.fingerprint:
            return "issued"
        members: Iterable[str | None] = data.members or [None] * len(data.digests)
        new = {digest: Voucher(name, member) for digest, member in zip(data.digests, members, strict=True) if digest not in self.codes}
        if not new:
            return "duplicate"
        self.codes |= new
        self.changed_codes |= new.keys()
        self._put_batch(name, structs.replace(batch, issued=batch.issued + len(new)))
        return "accepted"

    def _claim(self, event: ClaimEvent) -> Status:
        digest, owner = event.data.digest, Owner(event.source, event.data.reservation_id)
        voucher = self.codes.get(digest)
        if voucher is None:
            return "unknown"
        status, after = claimed(event, voucher, self.batches[voucher.batch], owner)
        if after is not voucher:
            self.codes[digest] = after
            self.changed_codes.add(digest)
        return status

    def _revoke(self, data: Revoked, moment: datetime) -> Status:
        if data.digest is not None:
            return self._revoke_code(data.digest, moment)
        named = [
            name for name, batch in self.batches.items() if batch.series == data.series and data.batch in {None, batch.batch}
        ]
        if not named:
            return "unknown"
        valid = [name for name in named if self.batches[name].revoked_at is None]
        for name in valid:
            self._put_batch(name, structs.replace(self.batches[name], revoked_at=moment))
        return "accepted" if valid else "duplicate"

    def _revoke_code(self, digest: str, moment: datetime) -> Status:
        voucher = self.codes.get(digest)
        if voucher is None:
            return "unknown"
        if voucher.revoked_at is not None:
            return "duplicate"
        self.codes[digest] = structs.replace(voucher, revoked_at=moment)
        self.changed_codes.add(digest)
        return "accepted"

    def _put_batch(self, name: str, batch: Batch) -> None:
        self.batches[name] = batch
        self.changed_batches.add(name)


def batch_name(series: str, batch: str) -> str:
    """What a batch is called; no name has a slash in it.

    >>> batch_name("spring", "1")
    'spring/1'
    """
    return f"{series}/{batch}"


def batch_of(data: Issued) -> Batch:
    """The batch that a block begins."""
    return Batch(
        series=data.series, batch=data.batch, worth=data.worth, valid_from=data.valid_from, valid_until=data.valid_until,
        codes=data.codes, fingerprint=data.fingerprint,
    )  # fmt: skip


def claimed(event: ClaimEvent, voucher: Voucher, batch: Batch, owner: Owner) -> tuple[Status, Voucher]:
    """What becomes of a claim, and the code afterwards: the very same where nothing changes."""
    if isinstance(event, ReleasedEvent):
        reason = why_not_release(voucher, owner, event.data.returned_by)
        if reason is not None or owner in voucher.given_back:
            return reason or "duplicate", voucher
        return "accepted", given_back(voucher, owner)
    receipt_id = event.data.receipt_id if isinstance(event, RedeemedEvent) else None
    reason = why_not(voucher, batch, owner, event.data.member_id, event.time, receipt_id)
    if reason is not None:
        return reason, voucher
    if voucher.owner == owner and voucher.redeemed_at is not None:
        return "duplicate", voucher
    if isinstance(event, RedeemedEvent):
        return "accepted", structs.replace(voucher, owner=owner, until=None, redeemed_at=event.time, receipt_id=receipt_id)
    if is_held(voucher, event.time):
        return "duplicate", voucher
    return "accepted", structs.replace(voucher, owner=owner, until=event.data.until)


def why_not(
    voucher: Voucher, batch: Batch, owner: Owner, member_id: str | None, moment: datetime, receipt_id: str | None = None
) -> Reason | None:
    """Why somebody may not reserve or redeem a code at `moment`; None: they may, or have already.

    A reservation that was made in time may be redeemed up to its end, also where the code expires meanwhile.
    """
    if owner in voucher.given_back:
        return "released"
    if voucher.redeemed_at is not None:
        is_same = voucher.owner == owner and receipt_id in {None, voucher.receipt_id}
        return None if is_same else "redeemed"
    if voucher.revoked_at is not None or batch.revoked_at is not None:
        return "revoked"
    held = is_held(voucher, moment)
    if held and voucher.owner == owner:
        return None
    if voucher.member_id not in {None, member_id}:
        return "not_this_member"
    if batch.valid_from is not None and moment < batch.valid_from:
        return "not_yet_valid"
    if moment >= batch.valid_until:
        return "expired"
    return "reserved" if held else None


def why_not_release(voucher: Voucher, owner: Owner, returned_by: str | None) -> Reason | None:
    """Why a code cannot be given back; None: it can. What is used up comes back only for a return or a void of its receipt."""
    is_used = voucher.redeemed_at is not None and voucher.owner == owner
    return "redeemed" if is_used and returned_by is None else None


def given_back(voucher: Voucher, owner: Owner) -> Voucher:
    """The code once `owner` has given back what it had of it, nothing perhaps."""
    remembered = (*voucher.given_back, owner)[-GIVEN_BACK_MAX:]
    if voucher.owner != owner:
        return structs.replace(voucher, given_back=remembered)
    return Voucher(voucher.batch, voucher.member_id, revoked_at=voucher.revoked_at, given_back=remembered)


def is_held(voucher: Voucher, moment: datetime) -> bool:
    """Whether somebody has reserved the code, and their time is not up."""
    return voucher.until is not None and moment < voucher.until


def is_swept(batch: Batch, now: datetime) -> bool:
    """Whether a batch is over for so long that its codes need not be known any more."""
    return now >= batch.valid_until + SWEPT_AFTER


def standing_of(voucher: Voucher, batch: Batch, moment: datetime) -> Standing:
    """What a code is at `moment`."""
    if voucher.redeemed_at is not None:
        return "redeemed"
    if voucher.revoked_at is not None or batch.revoked_at is not None:
        return "revoked"
    if is_held(voucher, moment):
        return "reserved"
    if moment >= batch.valid_until:
        return "expired"
    return "released" if voucher.given_back else "free"
