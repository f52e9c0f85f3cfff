"""What a member has besides the account in question: the accounts that were taken over or merged, in whatever partition they are.

Read only, and as of now: by it a worker sees whether spending is covered, which by nature depends on when it comes, and an account's part
of what expires. Where that changes for accounts of other partitions, they are noted for the next tick of theirs (docs/adr/0016).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

from aiokafka.partitioner import murmur2  # type: ignore[import-untyped]

from tillstream.kernels.holdings import Units
from tillstream.kernels.identities import PROVISIONAL
from tillstream.kernels.routed import AnyRouted, Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.events import ProfileEvent
from tillstream.sinks.registry import RegistryStore, linked
from tillstream.sinks.reviews import ReviewStore
from tillstream.sinks.state import StateStore

PLACES_MAX = 50_000
"""Accounts whose partition is remembered: some megabytes; working it out takes as long as a fifth of a round trip to Redis."""


class Groups:
    """Sums of groups, over all partitions."""

    def __init__(self, registry: RegistryStore, state: StateStore, partitions: int) -> None:
        self.registry = registry
        self.state = state
        self.partitions = partitions
        self.reviews = ReviewStore(state.client)

    async def join(self, snapshot: Snapshot, accounts: Collection[str]) -> None:
        """Lets the snapshot see the groups of some of its accounts."""
        if accounts:
            found = (await self.registry.of_accounts(accounts)).groups()
            groups = [found[account] for account in sorted(accounts) if account in found]
            snapshot.groups = {name: group for group in groups for name in group}
            snapshot.alias_units = await self.units(snapshot.groups)

    async def related(self, members: Collection[str]) -> set[str]:
        """The accounts that facts about some members tie together, now or at another time."""
        registry = await self.registry.of_accounts(members)
        provisional = {PROVISIONAL + digest for digest in registry.identities}
        return {*members, *registry.ties, *linked(registry.identities), *provisional}

    async def review(self, accounts: Collection[str]) -> None:
        """Has the next tick look at those of some accounts that hold something."""
        if accounts:
            await self.reviews.note(self.places(await self.units(sorted(accounts))))

    async def told(self, batch: Sequence[AnyRouted]) -> Sequence[AnyRouted]:
        """The batch, what it says of persons as they said it then: on `transactions` there is nothing that erasing could not reach."""
        said = [routed for routed in batch if isinstance(routed, Routed) and isinstance(routed.event, ProfileEvent)]
        if said:
            registry = await self.registry.of_accounts(routed.event.data.member_id for routed in said)  # type: ignore[union-attr]
            for routed in said:
                routed.event = registry.told(routed.event)  # type: ignore[arg-type]
        return batch

    def places(self, accounts: Iterable[str]) -> dict[int, list[str]]:
        """Accounts by their partition, each once."""
        found: dict[int, list[str]] = defaultdict(list)
        for account in dict.fromkeys(accounts):
            found[partition_of(account, self.partitions)].append(account)
        return found

    async def known(self, accounts: Iterable[str]) -> list[str]:
        """Those of some accounts that hold something, or of which rules know something."""
        places = self.places(accounts)
        return [account for partition, names in places.items() for account in await self.state.known_among(partition, names)]

    async def units(self, accounts: Iterable[str]) -> dict[str, Units]:
        """What accounts hold, each in its own partition."""
        found: dict[str, Units] = {}
        for partition, names in self.places(accounts).items():
            found |= (await self.state.accounts_at(partition, names))[1]
        return found


@lru_cache(PLACES_MAX)
def partition_of(account: str, partitions: int) -> int:
    """Where an account's events go: as all producers partition by key."""
    return int(murmur2(account.encode()) & 0x7FFFFFFF) % partitions
