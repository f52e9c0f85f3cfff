"""What a member has besides the account in question: the accounts that were taken over or merged, in whatever partition they are.

Read only, and as of now: by it a worker sees whether spending is covered, which by nature depends on when it comes.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
from aiokafka.partitioner import murmur2  # type: ignore[import-untyped]
from msgspec import structs

from tillstream.kernels.holdings import Units
from tillstream.kernels.routed import AnyRouted, Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.events import EnrolledEvent, SaleEvent, SpendingEvent
from tillstream.schemas.members import Enrolled
from tillstream.sinks.registry import RegistryStore
from tillstream.sinks.state import StateStore


class Groups:
    """Sums of groups, over all partitions."""

    def __init__(self, registry: RegistryStore, state: StateStore, partitions: int) -> None:
        self.registry = registry
        self.state = state
        self.partitions = partitions

    async def join(self, snapshot: Snapshot, batch: Iterable[AnyRouted]) -> None:
        """Lets the snapshot see the other accounts of members that spend in this batch; plain sales do not."""
        spenders = [routed.account_id for routed in batch if isinstance(routed, Routed) and spends(routed)]
        spending = {account for account in spenders if account is not None}
        if spending:
            registry = await self.registry.of_accounts(spending)
            groups = {account: registry.group_of(account) for account in spending}
            snapshot.groups = {account: group for account, group in groups.items() if len(group) > 1}
            snapshot.alias_units = await self.units(account for group in snapshot.groups.values() for account in group)

    async def told(self, batch: Sequence[AnyRouted]) -> Sequence[AnyRouted]:
        """The batch, its enrolments with what the member said then: on `transactions` they carry nothing that erasing could not reach."""
        enrolled = [routed for routed in batch if isinstance(routed, Routed) and isinstance(routed.event, EnrolledEvent)]
        if enrolled:
            registry = await self.registry.of_accounts(routed.event.data.member_id for routed in enrolled)  # type: ignore[union-attr]
            for routed in enrolled:
                event: EnrolledEvent = routed.event  # type: ignore[assignment]
                if (said := registry.profile_at(event.data.member_id, event.time)) is not None:
                    routed.event = structs.replace(event, data=msgspec.convert({**said, "identities": []}, Enrolled))
        return batch

    async def units(self, accounts: Iterable[str]) -> dict[str, Units]:
        """What accounts hold, each in its own partition."""
        places: dict[int, list[str]] = defaultdict(list)
        for account in dict.fromkeys(accounts):
            places[partition_of(account, self.partitions)].append(account)
        found: dict[str, Units] = {}
        for partition, names in places.items():
            found |= (await self.state.accounts_at(partition, names))[1]
        return found


def spends(routed: Routed) -> bool:
    """Whether an event takes points that its account must have."""
    if isinstance(routed.event, SpendingEvent):
        return True
    return isinstance(routed.event, SaleEvent) and any(tender.type == "points" for tender in routed.event.data.tenders)


def partition_of(account: str, partitions: int) -> int:
    """Where an account's events go: as all producers partition by key."""
    return int(murmur2(account.encode()) & 0x7FFFFFFF) % partitions
