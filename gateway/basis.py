"""What a basket is judged by: what Redis says now, or, while it does not answer, what it said when the till's snapshot was made."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from tillstream.gateway.problems import refusal, unavailable
from tillstream.gateway.runtime import Gateway
from tillstream.gateway.snapshots import OUTDATED, PATH, Seen, seen
from tillstream.gateway.standing import Standing
from tillstream.kernels.routed import Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.events import Malformed, SaleEvent
from tillstream.schemas.receipts import Identity
from tillstream.sinks.budgets import BUDGETS
from tillstream.sinks.redis import REDIS_AWAY, Redis
from tillstream.streams.groups import partition_of
from tillstream.streams.recounting import count_again

REDIS_S = 0.6
"""Redis, where a snapshot may stand in for it: what is left of a second is enough to judge by the snapshot."""


class Basis(NamedTuple):
    """What a sale is judged by; `standing` None: it is nobody's.

    `kept`: the till's own snapshot and what is in it, which stood in for Redis; None: Redis said it.
    """

    routed: Routed
    standing: Standing | None
    snapshot: Snapshot
    given: Mapping[str, int]
    kept: tuple[str, Seen] | None = None


async def basis_of(gateway: Gateway, event: SaleEvent, token: str | None) -> Basis:
    """What a sale of a sealed identity is judged by; `token`: the till's snapshot.

    Raises:
        Refusal: Redis does not answer, and the snapshot is none, too old, or not enough.
        REDIS_AWAY: Redis does not answer, and there is no snapshot, or none is allowed.
    """
    if token is None or not gateway.snapshots.age_s_max:
        return await from_redis(gateway, event)
    try:
        async with asyncio.timeout(REDIS_S):
            return await from_redis(gateway, event)
    except REDIS_AWAY:
        return from_snapshot(gateway, event, token)


async def from_redis(gateway: Gateway, event: SaleEvent) -> Basis:
    """As of now."""
    member, posters = event.data.member, gateway.posters
    standing = None if member is None else await gateway.standings.of_identity(member, event.data.issued_at)
    routed = Routed(event, None if standing is None else standing.account, 0, b"")
    snapshot = Snapshot() if standing is None else standing.snapshot()
    if standing is not None and (late := posters.in_need_of_chronicles([routed], snapshot)):
        await gateway.state.load_chronicles(partition_of(standing.account, gateway.settings.partitions), snapshot, late)
    if standing is not None:
        await count_again(gateway.state, posters, partition_of(standing.account, gateway.settings.partitions), snapshot)
    return Basis(routed, standing, snapshot, await budgets_given(gateway.redis, posters.budget_limits))


def from_snapshot(gateway: Gateway, event: SaleEvent, token: str) -> Basis:
    """As of the moment of a till's snapshot.

    Raises:
        Refusal: 422 or 409, the snapshot is of no use; 503, the sale is older than the account's last event, and Redis has those before it.
    """
    posters = gateway.posters
    try:
        what = gateway.snapshots.opened(token, event.data.member, datetime.now(UTC))
        if posters.looks_at_members and not what.with_members:
            raise Malformed(OUTDATED, PATH, "is from before programs looked at members; ask for another when Redis is back")
    except Malformed as malformed:
        raise refusal(malformed) from None
    standing = what.standing
    routed, snapshot = Routed(event, standing.account, 0, b""), standing.snapshot()
    if posters.in_need_of_chronicles([routed], snapshot):
        raise unavailable("Redis")
    return Basis(routed, standing, snapshot, what.given, (token, what))


async def snapshot_of(gateway: Gateway, identity: Identity, standing: Standing, given: Mapping[str, int] | None = None) -> str | None:
    """What the till may keep of a standing that Redis has just told; `given`: what was taken of the budgets, None: to be read."""
    if not gateway.snapshots.age_s_max:
        return None
    taken = await budgets_given(gateway.redis, gateway.posters.budget_limits) if given is None else dict(given)
    what = seen(datetime.now(UTC), identity, standing, taken, with_members=gateway.posters.looks_at_members)
    return gateway.snapshots.sealed(what)


async def budgets_given(client: Redis, limits: Mapping[str, int]) -> dict[str, int]:
    """What was taken of each budget, by rule id, leases included."""
    names = list(limits)
    values = await client.hmget(BUDGETS, names) if names else []
    return {name: int(value or 0) for name, value in zip(names, values, strict=True)}
