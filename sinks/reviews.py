"""Accounts that the next tick is to look at, since the group that they belong to has changed: its members, or what others of it did.

    {p17}:review      set   account ids: noted by whoever saw the change, in whatever partition
    {p17}:reviewing   set   account ids that the tick in progress has taken

Delivery: at least once. A note is made when the change can be read, so the tick that takes it sees the change; one that died leaves what it
had taken to the next. To look once more at an account changes nothing (docs/adr/0016).
"""

from collections.abc import Iterable, Mapping

from tillstream.sinks.redis import Redis
from tillstream.sinks.state import tag


class ReviewStore:
    """Notes accounts, and gives them to ticks."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    async def note(self, accounts: Mapping[int, Iterable[str]]) -> None:
        """Notes accounts, by partition."""
        pipeline = self.client.pipeline(transaction=False)
        for partition, names in accounts.items():
            pipeline.sadd(f"{tag(partition)}:review", *names)
        await pipeline.execute()

    async def noted(self, partition: int) -> set[str]:
        """The accounts that wait for a tick; they stay noted."""
        return {name.decode() for name in await self.client.sunion(keys(partition))}

    async def take(self, partition: int) -> set[str]:
        """The accounts that were noted so far; they stay taken until `done`."""
        return {name.decode() for name in await self.client.fcall("tillstream_take_reviews", 2, *keys(partition))}

    async def done(self, partition: int) -> None:
        """The tick has looked at what it had taken."""
        await self.client.unlink(keys(partition)[1])


def keys(partition: int) -> list[str]:
    return [f"{tag(partition)}:review", f"{tag(partition)}:reviewing"]
