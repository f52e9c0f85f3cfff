"""A gateway in front of real servers and a real worker, for tests, and the few words of HTTP that they need."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from tests.pipeline_harness import IDENTITY_KEY, PARTITIONS, PROGRAM, SESSION_MS, Stage, prepared, stage
from tillstream.config import Config
from tillstream.embedded.broker import Broker
from tillstream.embedded.redis import Redis
from tillstream.embedded.system import System
from tillstream.installation import GatewayProcess, WorkerProcess
from tillstream.streams.topics import ensure_topics

WAIT = {"Prefer": "wait=8000"}
"""A machine shared with others may take its time; what is tested is what comes, not when."""

TIMEOUT_S = 20.0


class Said(NamedTuple):
    """An answer: its status, its body, from JSON where it is JSON, and its headers in lower case."""

    status: int
    body: Any
    headers: dict[str, str]


class Place(NamedTuple):
    """Servers, a worker and a gateway."""

    stage: Stage
    worker: WorkerProcess
    gateway: GatewayProcess

    def get(self, path: str, **headers: str) -> Said:
        return ask(self.gateway.address, "GET", path, None, headers)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Said:
        return ask(self.gateway.address, "POST", path, body, WAIT if headers is None else headers)


def ask(address: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Said:
    """One request; a body that is not bytes goes as JSON."""
    where = urlsplit(address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=TIMEOUT_S)
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    try:
        connection.request(method, path, sent, headers or {})
        answer = connection.getresponse()
        raw, found = answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()
    return Said(answer.status, json.loads(raw) if "json" in found.get("content-type", "") and raw else raw, found)


@contextmanager
def place(folder: Path) -> Iterator[Place]:
    """All of it, for the program of pipeline_harness.py; stopped by pid."""
    with stage(folder) as here, here.worker() as worker:
        gateway = GatewayProcess(here.config, folder / "gateway")
        gateway.start()
        try:
            yield Place(here, worker, gateway)
        finally:
            gateway.stop()


class Servers:
    """A broker, a Redis and a gateway that a test may stop, hang or kill one by one; no worker. `settings` are the gateway's own."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.broker, self.redis = Broker(folder / "broker"), Redis(folder / "redis")
        self.broker.start()
        self.redis.start()
        self.stage = prepared(folder, self.broker.address, self.redis, transactions=False)
        self.config = replace(self.stage.config, **settings)
        self.gateway = GatewayProcess(self.config, folder / "gateway")
        self.gateway.start()

    def stop(self) -> None:
        self.stage.looking.close()
        for server in (self.gateway, self.redis, self.broker):
            server.stop()


@contextmanager
def installed(folder: Path, program: str = PROGRAM) -> Iterator[tuple[Config, str]]:
    """A whole installation, ClickHouse included, and a gateway's address."""
    path = folder / "program.toml"
    path.write_text(program)
    with System() as addresses:
        config = Config(
            kafka=addresses.kafka, kafka_transactions=False, redis=addresses.redis, clickhouse=addresses.clickhouse, program=str(path),
            gateway_auth=False,
            identity_key=IDENTITY_KEY.decode(), partitions=PARTITIONS, session_ms=SESSION_MS, poll_interval_ms=20_000, log_level="warning",
        )  # fmt: skip
        ensure_topics(config.kafka, config.partitions, 1)
        servers = [WorkerProcess(config, "points"), WorkerProcess(config, "history"), GatewayProcess(config)]
        try:
            for server in servers:
                server.start()
            yield config, servers[-1].address
        finally:
            for server in servers:
                server.stop()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("gateway")) as there:
        yield there
