"""Outcomes into replies, for the events that asked for one; most did not, and cost a look."""

from collections.abc import Sequence

from msgspec import Raw

from tillstream.kernels.routed import Outcome
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.replies import Reply, refused

POSTED = b'{"type":"ledger.posted","specversion":"1.0","id":"'
"""What the record of a posting begins with, its natural key behind; what else is kept by a natural key is an event that waits."""


def replies_of(outcomes: Sequence[Outcome], snapshot: Snapshot) -> list[Reply]:
    """What became of the events of a batch that asked, now that `snapshot` is applied."""
    asked = [outcome for outcome in outcomes if outcome.routed.reply_to is not None]
    return [reply_of(outcome, outcome.routed.reply_to or "", snapshot) for outcome in asked]


def reply_of(outcome: Outcome, to: str, snapshot: Snapshot) -> Reply:
    """What became of one event; a duplicate is told what its first delivery was."""
    key = outcome.routed.key
    if outcome.problem is not None:
        return refused(to, key, outcome.problem)
    # Others may stand beside it: corrections of other postings, what fell due.
    own = POSTED + key.encode()
    records = outcome.records if outcome.status == "accepted" else [snapshot.postings.get(key, b"")]
    record = next((record for record in records if record.startswith(own)), None)
    if record is None:
        return Reply(to, "waiting" if outcome.status == "duplicate" else outcome.status, key)
    return Reply(to, outcome.status, key, Raw(record))
