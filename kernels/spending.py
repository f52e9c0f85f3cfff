"""Points that are spent or moved outside a receipt: what `points.hold`, `release`, `redeem`, `adjust` and `transfer` do to an account.

In: the event, its local date, the account's holdings. Out: entries, and for a transfer what follows for the receiver, as an event of our
own (`points.transferred`), since the receiver's account may live in another partition.

    hold         -P on its date, as if spent; refused where the balance does not cover it
    release      +P of the hold, on the hold's date
    redeem       -P; of a hold: its release, then the capture
    adjust       +P with an expiry, or -P, which may lead into debt
    transfer     -P on the giver's side; +P per lot, with the lots' own expiry dates, on the receiver's
"""

from datetime import date, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from tillstream.kernels.expiry import expires_on
from tillstream.kernels.holdings import NEVER, Holding, Units, copied, settle, spendable, take
from tillstream.kernels.routed import Follow
from tillstream.kernels.set_aside import release_of
from tillstream.kernels.snapshot import move
from tillstream.kernels.tenders import check_unit, taking
from tillstream.schemas.events import (
    AdjustEvent,
    HoldEvent,
    Malformed,
    RedeemEvent,
    ReleaseEvent,
    SpendingEvent,
    TransferEvent,
    TransferredEvent,
)
from tillstream.schemas.ledger import Entries, PostingKind
from tillstream.schemas.programs import Program
from tillstream.schemas.spending import Adjust, Hold, Redeem, Release, Transferred, TransferredLot

POSTING_KINDS: dict[type, PostingKind] = {
    HoldEvent: "hold",
    ReleaseEvent: "release",
    RedeemEvent: "redemption",
    AdjustEvent: "adjustment",
    TransferEvent: "transfer",
    TransferredEvent: "transfer",
}


class Spent(NamedTuple):
    """What an event does: entries on its own account, and what follows on another."""

    entries: list[Entries]
    follow: list[Follow]


def spend(program: Program, event: SpendingEvent, posting_id: str, account_id: str, units: Units, day: date) -> Spent:
    """Judges an event on local date `day`; `posting_id` is its natural key.

    Raises:
        Malformed: it is not covered, names what is not there, or its members are not of one household.
    """
    match event:
        case HoldEvent(data=data):
            return Spent(hold(program, data, units, day), [])
        case ReleaseEvent(data=data):
            return Spent(release(program, data, units, day), [])
        case RedeemEvent(data=data):
            return Spent(redeem(program, data, units, day), [])
        case AdjustEvent(data=data):
            return Spent(adjust(program, data, day), [])
        case TransferEvent():
            return transfer(program, event, posting_id, account_id, units, day)
        case TransferredEvent(data=data):
            return Spent(received(data), [])


def hold(program: Program, data: Hold, units: Units, day: date) -> list[Entries]:
    """Points are set aside until the end of the local date of `expires_at`; a hold that ended before it came is released at once."""
    check_unit(program, data.unit, "$.data.unit")
    marks = [holding.holds[data.hold_id] for holding in units.values() if data.hold_id in holding.holds]
    if any(mark.day for mark in marks):
        raise Malformed("conflict", "$.data.hold_id", f"the account has a hold {data.hold_id!r} of another source")
    until = local_date(program, data.expires_at)
    entries = [
        Entries(
            kind="hold", unit=data.unit, points=[-data.points], spent_on=day.isoformat(), hold_id=data.hold_id, until=until.isoformat()
        )
    ]
    if not marks:
        check_cover(units, data.unit, data.points, day)
        return entries
    after = copied(units)
    move(after, entries[0])
    return [*entries, release_of(data.unit, data.hold_id, after[data.unit].holds[data.hold_id])]


def release(program: Program, data: Release, units: Units, day: date) -> list[Entries]:
    """A hold is given back. One that has ended by itself stays so; of one that is not known, it is noted that it has ended."""
    for unit, holding in units.items():
        if (found := holding.holds.get(data.hold_id)) is not None:
            past = day.isoformat() > found.until
            return [] if past and not found.points else [release_of(unit, data.hold_id, found, by_itself=past)]
    return [Entries(kind="release", unit=next(iter(program.units)), points=[], hold_id=data.hold_id)]


def redeem(program: Program, data: Redeem, units: Units, day: date) -> list[Entries]:
    """Points buy a reward: those of a hold, which are there; what is beyond them must be in the balance."""
    check_unit(program, data.unit, "$.data.unit")
    how = taking(units, data.unit, data.hold_id, day.isoformat())
    beyond = data.points - sum(sum(entries.points) for entries in how.released)
    if beyond > 0:
        check_cover(units, data.unit, beyond, day)
    taken = Entries(kind=how.kind, unit=data.unit, points=[-data.points], spent_on=how.spent_on, hold_id=how.hold_id)
    return [*how.released, taken]


def adjust(program: Program, data: Adjust, day: date) -> list[Entries]:
    """A correction: points that are given have an expiry, points that are taken are spent."""
    check_unit(program, data.unit, "$.data.unit")
    if data.points < 0:
        return [Entries(kind="adjustment", unit=data.unit, points=[data.points], spent_on=day.isoformat())]
    last = data.expires_on or expires_on(program.units[data.unit].expires, day)
    given = Entries(kind="adjustment", unit=data.unit, points=[data.points], expires_on=None if last is None else last.isoformat())
    return [given] if data.points else []


def transfer(program: Program, event: TransferEvent, posting_id: str, account_id: str, units: Units, day: date) -> Spent:
    """Points leave for another member of the household; the receiver's side follows as an event of its own."""
    data = event.data
    check_unit(program, data.unit, "$.data.unit")
    if not isinstance(event.toaccountid, str):
        raise Malformed("not_household", "$.data.to", "points move only between members of one household")
    check_cover(units, data.unit, data.points, day)
    lots = lots_taken(units[data.unit], data.points, day)
    following = TransferredEvent(
        specversion="1.0",
        id=posting_id,
        source=event.source,
        time=event.time,
        data=Transferred(
            transfer_id=data.transfer_id, unit=data.unit, lots=lots, from_account=account_id, to_account=event.toaccountid
        ),
    )
    given = Entries(kind="transfer", unit=data.unit, points=[-data.points], spent_on=day.isoformat())
    return Spent([given], [Follow(event.toaccountid, msgspec.json.encode(following))])


def received(data: Transferred) -> list[Entries]:
    """The receiver's side of a transfer: an entry per lot, with the lot's own expiry."""
    return [
        Entries(
            kind="transfer",
            unit=data.unit,
            points=[lot.points],
            expires_on=None if lot.expires_on is None else lot.expires_on.isoformat(),
        )
        for lot in data.lots
    ]


def lots_taken(holding: Holding, points: int, day: date) -> list[TransferredLot]:
    """The lots out of which `points` are spent on `day`, soonest first."""
    before = settle(holding, None).lots
    left = dict(before)
    take(left, points, day.isoformat())
    return [
        TransferredLot(None if expiry == NEVER else date.fromisoformat(expiry), there - left[expiry])
        for expiry, there in before.items()
        if there > left[expiry]
    ]


def check_cover(units: Units, unit: str, points: int, day: date) -> None:
    """Raises Malformed where the balance does not cover `points` on `day`."""
    there = spendable(units.get(unit, Holding()), day.isoformat())
    if there < points:
        raise Malformed("insufficient", "$.data.points", f"{points} {unit} are asked for, {there} can be spent on {day}")


def local_date(program: Program, moment: datetime) -> date:
    """The date in the program's time zone."""
    return moment.astimezone(ZoneInfo(program.program.time_zone)).date()
