"""Budgets that all partitions and workers share: never overspent by a point, and used up to the last one.

A rule's budget is one number in Redis. Before a worker judges a batch it *leases* a part of what is left, and right after judging gives
back what the batch did not use; near a budget's end workers take turns, and each leases all of it. So no award is cut while there are
points for it.

Delivery: a lease is taken before the ledger is written, so Redis never shows more left than there is. What a dead worker had leased comes
back when its turn is over, or when its partition is assigned anew (`restore`), from what the partition's ledger gave; a worker that was
only slow is told that its lease was void, and judges again. Idempotency key: the partition.
"""

import asyncio
import uuid
from collections.abc import Mapping

from tillstream.schemas.programs import Rule
from tillstream.sinks.redis import Redis
from tillstream.sinks.state import keys

BUDGETS, TURN = "{b}:budgets", "{b}:turn"

TURN_MS = 5_000
"""A worker that dies in its turn holds up the others so long, then its lease is void; judging a batch takes a hundredth of it."""

TURNS_FROM = 100_000
"""So near to a budget's end workers take turns: above, a quarter of what is left is far more than any one award."""

WAIT_S = 0.005


class Lease:
    """What one batch may take of each budget; `Budgets` of kernels/room.py."""

    def __init__(self, partition: int, token: str, points: dict[str, int], *, whole: bool) -> None:
        self.partition = partition
        self.token = token
        self.points = points
        self.whole = whole
        self.used: dict[str, int] = {}

    def left(self, rule: Rule) -> int:
        return max(0, self.points.get(rule.id, 0) - self.used.get(rule.id, 0))

    def moved(self, rule: Rule, points: int) -> None:
        self.used[rule.id] = self.used.get(rule.id, 0) + points

    @property
    def short(self) -> bool:
        """Whether the lease may have cut an award although there was more: the batch is to be judged again under a whole one."""
        return not self.whole and any(2 * self.used.get(rule_id, 0) > points for rule_id, points in self.points.items())


class BudgetStore:
    """Leases the budgets of rules."""

    def __init__(self, client: Redis) -> None:
        self.client = client

    async def lease(self, partition: int, budgets: Mapping[str, int], *, whole: bool = False) -> Lease:
        """A part of each budget (by rule id), or, `whole` or near an end, all that is left, after waiting for the turn."""
        token = uuid.uuid4().hex
        if not budgets:
            return Lease(partition, token, {}, whole=True)
        arguments = [partition, token, TURN_MS, int(whole), TURNS_FROM, *(part for pair in budgets.items() for part in pair)]
        while True:
            answer = await self.client.fcall("tillstream_lease_budgets", 2, BUDGETS, TURN, *arguments)
            if answer != 0:
                break
            await asyncio.sleep(WAIT_S)
        return Lease(partition, token, dict(zip(budgets, answer[1:], strict=True)), whole=bool(answer[0]))

    async def settle(self, lease: Lease, *, used: bool = True) -> bool:
        """Gives back what a lease did not use; all of it where the batch was not `used`. False: it is void, and so is what was judged."""
        if not lease.points:
            return True
        unused = [(rule_id, points - (lease.used.get(rule_id, 0) if used else 0)) for rule_id, points in lease.points.items()]
        arguments = [lease.partition, lease.token, int(lease.whole), *(part for pair in unused for part in pair)]
        return bool(await self.client.fcall("tillstream_settle_budgets", 2, BUDGETS, TURN, *arguments))

    async def restore(self, partition: int) -> None:
        """On assignment: what the partition took is what its ledger gave, whatever leases a dead writer left."""
        given = await self.client.hgetall(keys(partition)[7])
        await self.restore_to(partition, {name.decode(): int(points) for name, points in given.items()})

    async def restore_to(self, partition: int, given: Mapping[str, int]) -> None:
        """Makes what a partition took `given`, by rule id; nothing where a rule is not named."""
        mark = f"|{partition}"
        taken = [name.decode() for name in await self.client.hkeys(BUDGETS)]
        names = dict.fromkeys([*given, *(name.removesuffix(mark) for name in taken if name.endswith(mark))])
        if names:
            arguments = [partition, *(part for name in names for part in (name, given.get(name, 0)))]
            await self.client.fcall("tillstream_restore_budgets", 1, BUDGETS, *arguments)
