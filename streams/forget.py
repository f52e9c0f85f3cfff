"""members -> features deleted: of who withdraws the consent to profiling, never gave it, or is erased.

A batch goes through these steps, in this order:

(1) find the records of all that is known of a member: `enrol` appends them when it has noted an event, so what is looked up from now on
    knows it;
(2) of members that do not agree, delete all states in which something of them is (sinks/features.py);
(3) acknowledge.

Delivery: at least once; deleting again changes nothing.
"""

from collections.abc import Sequence

from confluent_kafka import Message

from tillstream.kernels.facts import fact_in
from tillstream.kernels.registry import Registry
from tillstream.schemas.registrations import Known, decode_known
from tillstream.sinks.features import FeatureStore
from tillstream.streams.groups import partition_of
from tillstream.streams.persons import PROFILING


class Forget:
    """Forgets members; `partitions` are those of `transactions`."""

    def __init__(self, store: FeatureStore, partitions: int) -> None:
        self.store = store
        self.partitions = partitions

    async def forget(self, messages: Sequence[Message]) -> None:
        """Takes one batch through the steps of the module."""
        records = (decode_known(message.value() or b"") for message in messages)
        latest = {known.member_id: known for known in records if known is not None}  # (1)
        unwilling = {member: partition_of(member, self.partitions) for member, known in latest.items() if not agrees(known)}
        await self.store.forget(unwilling)  # (2)


def agrees(known: Known) -> bool:
    """Whether a member agrees to profiling, by all that is known."""
    registry = Registry()
    registry.members[known.member_id] = [fact_in(line) for line in known.facts]
    return registry.consents_of(known.member_id).get(PROFILING) is True
