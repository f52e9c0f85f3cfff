"""What only ClickHouse remembers: pages of statements, and postings that Redis has let go."""

import asyncio
import re
from collections.abc import Callable
from typing import TypeVar

from clickhouse_connect.driver.exceptions import ClickHouseError

from tillstream.gateway.problems import unavailable
from tillstream.gateway.runtime import Gateway
from tillstream.sinks.clickhouse import Unreachable
from tillstream.sinks.state import keys

T = TypeVar("T")

POSTING_S = 5.0
"""One posting is found in some tens of milliseconds; who asks for an old one is no till with a customer before it."""

_key = re.compile("[0-9a-f]{32}")


async def read(seconds: float, what: Callable[[], T]) -> T:
    """What a query gives, in a thread of its own.

    Raises:
        Refusal: 503, ClickHouse does not answer within so many seconds.
    """
    try:
        async with asyncio.timeout(seconds):
            return await asyncio.to_thread(what)
    except (Unreachable, ClickHouseError, TimeoutError, OSError):
        raise unavailable("ClickHouse") from None


async def posting(gateway: Gateway, key: str) -> bytes | None:
    """The ledger record of a posting by its natural key; None: there is none, or Redis has let nothing go, so that it would have it.

    Raises:
        Refusal: 503, as `read`.
    """
    if not _key.fullmatch(key):
        return None
    pipeline = gateway.redis.pipeline(transaction=False)
    for partition in range(gateway.settings.partitions):
        pipeline.hget(keys(partition)[0], "horizon")
    if not any(await pipeline.execute()):
        return None
    return await read(POSTING_S, lambda: gateway.history.posting(key))
