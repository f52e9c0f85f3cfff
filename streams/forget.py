"""members -> features deleted: of who withdraws the consent to profiling, never gave it, or is erased.

A batch goes through these steps, in this order:

(1) find the records of all that is known of a member: `enrol` appends them when it has noted an event, so what is looked up from now on
    knows it;
(2) of members that do not agree by them, and by what the registry knows now, delete all states in which something of them is
    (sinks/features.py): a record may be old, and the member have agreed since; of erased ones, what they were offered (sinks/offers.py);
(3) acknowledge.

Delivery: at least once; deleting again changes nothing.
"""

from collections.abc import Iterable, Sequence

from confluent_kafka import Message

from tillstream.kernels.facts import Fact, fact_in
from tillstream.kernels.registry import consents_in
from tillstream.schemas.registrations import Known, decode_known
from tillstream.sinks.features import FeatureStore
from tillstream.sinks.offer_view import OfferView
from tillstream.sinks.registry import RegistryStore
from tillstream.streams.groups import partition_of
from tillstream.streams.persons import PROFILING


class Forget:
    """Forgets members; `partitions` are those of `transactions`."""

    def __init__(self, store: FeatureStore, registry: RegistryStore, partitions: int, offers: OfferView | None = None) -> None:
        self.store = store
        self.registry = registry
        self.offers = offers
        self.partitions = partitions

    async def forget(self, messages: Sequence[Message]) -> None:
        """Takes one batch through the steps of the module."""
        records = (decode_known(message.value() or b"") for message in messages)
        latest = {known.member_id: known for known in records if known is not None}  # (1)
        unwilling = [member for member, known in latest.items() if not agrees(map(fact_in, known.facts))]
        facts = await self.registry.facts("members", unwilling)  # (2)
        still = [member for member in unwilling if not agrees(facts.get(member, ()))]
        gone = {member for member in still if not any(fact.kind == "enrolled" for fact in facts.get(member, ()))}
        await self.store.forget({member: partition_of(member, self.partitions) for member in still}, gone)
        if self.offers is not None:
            await self.offers.forget([member for member, known in latest.items() if is_erased(known)])


def is_erased(known: Known) -> bool:
    """Whether the latest that is known of a member is that it was erased: who enrolled anew since is somebody again."""
    return fact_in(known.facts[-1]).kind == "erased"


def agrees(facts: Iterable[Fact]) -> bool:
    """Whether a member agrees to profiling, by some facts of it, in order."""
    return consents_in(facts).get(PROFILING) is True
