"""The connection to Redis, single or Cluster, and our function library in it.

Delivery: none of its own; what is written through it states its own guarantee (state.py, directory.py).
"""

from importlib.resources import files
from typing import Any

import redis.asyncio as redis_client
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import RedisClusterException, RedisError, ResponseError

LIBRARY_VERSION = 2
"""The version that state.lua's `tillstream_version` gives."""

CLUSTER_SCHEME = "redis+cluster://"
SECURE_CLUSTER_SCHEME = "rediss+cluster://"
SLOTS = 32
"""Hash tags over which claims and identities are spread; permanent, whatever the number of partitions."""

NAMES_MANY = 32
"""Arguments from which on packing in C is worth its own cost."""

Redis = Any
"""`redis.asyncio.Redis` or `RedisCluster`: the commands that we use are the same."""


class RedisUnreachable(Exception):
    """Redis does not answer; `address` says where it was looked for."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"Redis does not answer at {address}: {reason}")
        self.address = address


class LibraryMismatch(Exception):
    """Redis holds a newer function library than this process knows."""


class Packing:
    """Packs a batch's thousands of names in C, which took longer than Redis takes to look them up."""

    def pack_command(self, *args: Any) -> list[bytes]:
        if len(args) > NAMES_MANY:
            packed: list[bytes] = HiredisRespSerializer().pack(*args)
            return packed
        # One large argument goes out as it is; in C it would be copied, twice.
        packed_by_parent: list[bytes] = super().pack_command(*args)  # type: ignore[misc]
        return packed_by_parent


class Connection(Packing, redis_client.Connection):
    pass


class SecureConnection(Packing, redis_client.SSLConnection):
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
    return redis_client.from_url(url, connection_class=SecureConnection if secure else Connection, **options)


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
