"""What members have bought, for a batch of page views: read for those that something is to be decided of, decoded when it is asked for.

A state of purchases is some seven kilobytes, and most page views meet no offer that looks at it.
"""

from collections.abc import Iterable

from tillstream.models.features.purchases import Purchases, decode_purchases
from tillstream.sinks.features import PURCHASES, FeatureStore
from tillstream.streams.groups import partition_of


class Bought:
    """Purchases by account; `partitions` are those of `transactions`."""

    def __init__(self, store: FeatureStore, partitions: int) -> None:
        self.store = store
        self.partitions = partitions
        self.found: dict[str, bytes] = {}
        self.decoded: dict[str, Purchases] = {}

    async def load(self, accounts: Iterable[str]) -> None:
        """Reads what accounts have bought, in one round trip."""
        self.found |= await self.store.read(PURCHASES, {account: partition_of(account, self.partitions) for account in accounts})

    def of(self, account: str) -> Purchases | None:
        """What an account has bought; None: nothing that is known, or it was not read."""
        if account in self.found:
            self.decoded[account] = decode_purchases(self.found.pop(account))
        return self.decoded.get(account)
