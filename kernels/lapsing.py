"""Expiry: entries that fall due once a `clock.tick` has passed a lot's last day, and their correction where a late event shows better."""

from collections.abc import Iterator
from datetime import date
from hashlib import blake2b

import msgspec

from tillstream.kernels.holdings import Units, expiry_due
from tillstream.kernels.snapshot import move
from tillstream.schemas.events import TickEvent
from tillstream.schemas.ledger import Entries, Posting


def expiries(units: Units, as_of: str | None) -> Iterator[Entries]:
    """What is due per unit and lot as of the latest tick; positive points give back what a late event shows was not there to expire."""
    for unit in sorted(units):
        for expiry, points in expiry_due(units[unit], as_of).items():
            yield Entries(kind="expiry", unit=unit, points=[-points], expires_on=expiry)


def expiries_after(units: Units, entries: list[Entries], as_of: str | None) -> list[Entries]:
    """What would be due after `entries`; the units themselves stay as they are."""
    if as_of is None or not entries:
        return []
    after = {name: msgspec.convert(msgspec.to_builtins(units[name]), type(units[name])) for name in units}
    for group in entries:
        move(after, group)
    return list(expiries(after, as_of))


def tick_posting(event: TickEvent, offset: int, account_id: str | None, due: list[Entries]) -> Posting:
    """One account's expiry at a tick, or, for no account, the record that the whole partition has seen it.

    Its id is the tick's date and the account's, so that a repeated tick repeats nothing.
    """
    day: date = event.data.date
    return Posting(
        posting_id=blake2b(f"tick\0{day}\0{account_id or ''}".encode(), digest_size=16).hexdigest(),
        kind="tick",
        account_id=account_id,
        source=event.source,
        event_id=event.id,
        receipt_id=None,
        digest="",
        offset=offset,
        occurred_at=event.time.isoformat(),
        day=day.isoformat(),
        program_version=None,
        line_no=[],
        amount=[],
        quantity_milli=[],
        entries=due,
        closes=account_id is None,
    )
