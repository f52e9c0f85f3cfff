"""Accounts whose states lack what versions ask for since they were published are counted again before they are judged (docs/adr/0033)."""

from tillstream.kernels.posters import Posters
from tillstream.kernels.snapshot import Snapshot
from tillstream.sinks.state import StateStore

ACCOUNTS_MAX = 50
"""Accounts whose postings are in memory at once: some thousands of postings, ten megabytes."""


async def count_again(state: StateStore, posters: Posters, partition: int, snapshot: Snapshot) -> None:
    """Brings the members of a snapshot up to what is asked for; their postings are read, some at a time, and let go of."""
    lacking = sorted(posters.lacking(snapshot))
    for first in range(0, len(lacking), ACCOUNTS_MAX):
        aside = Snapshot()
        aside.members = {name: snapshot.members[name] for name in lacking[first : first + ACCOUNTS_MAX]}
        await state.load_chronicles(partition, aside, aside.members)
        snapshot.members |= {name: posters.recounted(name, aside) for name in aside.members}
