"""Holds that another account of the group has, and that end here: captured by a receipt of the root, or released by it (docs/adr/0016).

A hold's points are in the sums of the account that made it, so that account gives them back. Here stays a mark that it has ended, by which
nothing takes it again, and what it paid; the other account is told by a `points.release` of our own.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from tillstream.kernels.holdings import Units
from tillstream.kernels.routed import Follow
from tillstream.schemas.events import ReleaseEvent
from tillstream.schemas.ledger import Entries
from tillstream.schemas.receipts import Identity
from tillstream.schemas.spending import Release

SOURCE = "tillstream/holds/"


def on_own_account(entries: Iterable[Entries], elsewhere: Mapping[str, str]) -> list[Entries]:
    """Entries without the releases of holds that are `elsewhere`, by hold id the account: in their place each has a mark."""
    found: list[Entries] = []
    marked: set[str] = set()
    for group in entries:
        hold_id = group.hold_id
        if hold_id is None or hold_id not in elsewhere or group.kind not in {"release", "capture"}:
            found.append(group)
            continue
        if hold_id not in marked:
            found.append(Entries(kind="release", unit=group.unit, points=[], hold_id=hold_id))
            marked.add(hold_id)
        if group.kind == "capture":
            found.append(group)
    return found


def makes(units: Units, hold_id: str) -> bool:
    """Whether an account made a hold itself and knows it still: it gives it back, though another of its group says that it has ended."""
    return any(hold_id in holding.holds and holding.holds[hold_id].day for holding in units.values())


def releases_elsewhere(entries: Iterable[Entries], elsewhere: Mapping[str, str], posting_id: str, moment: datetime) -> list[Follow]:
    """What tells the accounts of the holds that a posting's entries have ended at `moment`."""
    ended = [group.hold_id for group in entries if group.hold_id in elsewhere and group.kind == "release"]
    return [Follow(elsewhere[hold_id], release(hold_id, elsewhere[hold_id], posting_id, moment)) for hold_id in ended if hold_id]


def release(hold_id: str, account_id: str, posting_id: str, moment: datetime) -> bytes:
    """The event; history need not be asked about it, since a hold that is released again gives nothing."""
    event = ReleaseEvent(
        specversion="1.0",
        id=posting_id,
        source=SOURCE + posting_id,
        time=moment,
        data=Release(hold_id=hold_id, member=Identity("member", account_id)),
    )
    said = msgspec.to_builtins(event)
    del said["recalled"]
    return b'{"recalled":"",' + msgspec.json.encode(said)[1:]  # In front, as `identify` puts it.
