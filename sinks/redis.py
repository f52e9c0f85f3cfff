"""The connection to Redis, single or Cluster, and our function library in it.

Delivery: none of its own; what is written through it states its own guarantee (state.py, directory.py).
"""

import asyncio
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from typing import Any

import redis.asyncio as redis_client
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from tillstream.sinks.redis_line import Multiplexed

REDIS_AWAY = (RedisError, RedisClusterException, OSError, TimeoutError)
"""What a client raises where Redis does not answer, or not in time."""

LIBRARY_VERSION = 8
"""The version that state.lua's `tillstream_version` gives."""

CLUSTER_SCHEME = "redis+cluster://"
SECURE_CLUSTER_SCHEME = "rediss+cluster://"
SLOTS = 32
"""Hash tags over which claims, identities and what is kept by member are spread; permanent, whatever the number of partitions."""

TAGS_MAX = 50_000
"""Subjects whose tag is remembered: some megabytes."""

Redis = Any
"""`redis.asyncio.Redis` or `RedisCluster`: the commands that we use are the same."""


class RedisUnreachable(Exception):
    """Redis does not answer; `address` says where it was looked for."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"Redis does not answer at {address}: {reason}")
        self.address = address


class LibraryMismatch(Exception):
    """Redis holds a newer function library than this process knows."""


class RedisEmptied(Exception):
    """Redis has not what it had: it was emptied or rolled back under a worker. Whoever starts next restores it."""

    def __init__(self, what: str = "the decisions on offers are gone") -> None:
        super().__init__(f"Redis was emptied or rolled back: {what}; started again, a worker restores them")


class HandingOver:
    """A connection that redis-py makes, and that somebody else uses (redis_line.py)."""

    def hand_over(self, protocol: asyncio.Protocol) -> asyncio.Transport:
        """What is received goes to `protocol` from now on; what it sends, to the transport. redis-py's writer stays, and closes it."""
        transport: asyncio.Transport = self._writer.transport  # type: ignore[attr-defined]
        transport.set_protocol(protocol)
        return transport


class Connection(HandingOver, redis_client.Connection):
    pass


class SecureConnection(HandingOver, redis_client.SSLConnection):
    pass


def connect(url: str, answer_s: float | None = None, ca: str = "") -> Redis:
    """A client for `redis://`, `redis+cluster://`, or, encrypted, `rediss://`, `rediss+cluster://`; nothing is sent yet.

    `answer_s`: give up a command after so many seconds, and try once more over a new connection; None: be patient, as workers are.
    `ca`: a PEM file of the authorities that the server's certificate is checked by; '': those that the system trusts.
    """
    secure = url.startswith("rediss")
    options: dict[str, Any] = {}
    if answer_s is not None:
        options = {"socket_timeout": answer_s, "socket_connect_timeout": answer_s, "retry": Retry(NoBackoff(), 1)}
    if secure and ca:
        options["ssl_ca_certs"] = ca
    if url.startswith((CLUSTER_SCHEME, SECURE_CLUSTER_SCHEME)):
        return RedisCluster.from_url(url.replace("+cluster", "", 1), **options)
    client: Any = Multiplexed.from_url(url, **options)
    # An option would lose against the class that redis-py takes from a rediss:// URL.
    client.connection_pool.connection_class = SecureConnection if secure else Connection
    if answer_s is not None:
        client.answer_s, client.attempts = answer_s, 2
    return client


async def load_library(client: Redis, url: str) -> None:
    """Puts state.lua on every primary that has none or an older one.

    Raises:
        RedisUnreachable: nobody answers at `url`.
        LibraryMismatch: a newer library is there.
    """
    code = files("tillstream.sinks").joinpath("state.lua").read_text()
    try:
        for node in await primaries(client):
            there = await library_version(client, node)
            if there > LIBRARY_VERSION:
                raise LibraryMismatch(f"Redis at {url} has function library {there}, this tillstream knows {LIBRARY_VERSION}; upgrade it")
            if there < LIBRARY_VERSION:
                await client.execute_command("FUNCTION", "LOAD", "REPLACE", code, **node)
    except (RedisError, RedisClusterException, OSError) as error:
        raise RedisUnreachable(url, str(error)) from None


async def primaries(client: Redis) -> list[dict[str, Any]]:
    """Per primary, what directs a command to it: functions live on nodes, not on slots."""
    if not isinstance(client, RedisCluster):
        return [{}]
    await client.initialize()
    return [{"target_nodes": node} for node in client.get_primaries()]


async def library_version(client: Redis, node: dict[str, Any]) -> int:
    """The version of the library on one of the `primaries`, 0 without."""
    try:
        return int(await client.execute_command("FCALL_RO", "tillstream_version", 0, **node))
    except ResponseError:
        return 0


@lru_cache(TAGS_MAX)
def tag_of(letter: str, subject: str) -> str:
    """The hash tag of what is kept by member, visitor or the like: a letter, and one of `SLOTS` numbers by the subject.

    >>> tag_of("m", "m1")
    '{m16}'
    """
    return f"{{{letter}{int.from_bytes(blake2b(subject.encode(), digest_size=2).digest()) % SLOTS}}}"


class Asks:
    """What stores have in common: a client, and several commands in one round trip."""

    client: Redis

    async def _all(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        asked = 0
        for command in commands:
            pipeline.execute_command(*command)
            asked += 1
        return await pipeline.execute() if asked else []
