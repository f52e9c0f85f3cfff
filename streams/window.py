"""How long Redis holds receipts: the newest local date of a partition less the window; older postings are let go once ClickHouse has them.

Time is the receipts' own, so a replay of an old history keeps as much as a live stream; a till whose clock is ahead moves the window no
further than tomorrow.
"""

from datetime import date, timedelta

from tillstream.kernels.keys import occurred
from tillstream.kernels.plain import PlainSale
from tillstream.kernels.routed import AnyRouted
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.events import ReturnEvent, TickEvent, VoidEvent
from tillstream.sinks.directory import Directory
from tillstream.sinks.state import StateStore


class Window:
    """Lets go of what is older than the window."""

    def __init__(self, state: StateStore, directory: Directory, days: int) -> None:
        self.state = state
        self.directory = directory
        self.days = timedelta(days=days)

    async def slide(self, partition: int, today: date) -> int:
        """Lets go of one partition's old postings and their claims; how many."""
        days = [date.fromisoformat(day) for day in await self.state.days(partition)]
        if not days:
            return 0
        limit = min(max(days), today + timedelta(days=1)) - self.days
        gone = 0
        for day in (day for day in days if day < limit):
            while keys := await self.state.let_go(partition, day.isoformat()):
                await self.directory.forget_claims(day, keys)
                gone += len(keys)
        return gone


def split_old(batch: list[AnyRouted], snapshot: Snapshot) -> tuple[list[AnyRouted], list[AnyRouted]]:
    """What can be judged, and what history must be asked about first: its sale may be among the postings that were let go.

    An event that history was asked about brings what history has; the snapshot takes it.
    """
    if snapshot.horizon is None:
        return batch, []
    sales = (routed for routed in batch if isinstance(routed, PlainSale) or not isinstance(routed.event, ReturnEvent | VoidEvent))
    here = {routed.key for routed in sales} | snapshot.postings.keys()
    horizon = date.fromisoformat(snapshot.horizon)
    ready: list[AnyRouted] = []
    old: list[AnyRouted] = []
    for routed in batch:
        if isinstance(routed, PlainSale):
            (ready if routed.key in snapshot.postings or routed.issued_on - timedelta(days=1) > horizon else old).append(routed)
            continue
        event = routed.event
        if isinstance(event, TickEvent):
            ready.append(routed)
        elif event.recalled is not None:
            snapshot.remember(line.encode() for line in event.recalled.splitlines())
            ready.append(routed)
        elif isinstance(event, ReturnEvent | VoidEvent):
            (ready if routed.sale_key in here else old).append(routed)
        else:
            known = routed.key in snapshot.postings or occurred(event).date() - timedelta(days=1) > horizon
            (ready if known else old).append(routed)
    return ready, old
