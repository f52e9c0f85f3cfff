"""A gateway whose servers are gone: a till is told within a second, and nothing that it was told is kept is lost."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from tests.gateway_harness import Place, Said, Servers, ask
from tests.test_gateway import sale
from tillstream.installation import WorkerProcess
from tillstream.streams.stats import ALIVE, ALIVE_S

QUICK_S = 1.4
"""A second, and what a machine shared with others takes on top."""

IDENTIFY = {"identity": {"scheme": "card", "value": "c-1"}}
CLICK = {"name": "page_view", "params": {"visitor_id": "v", "session_id": "s", "page_location": "/"}}
BASKET = {name: value for name, value in sale("x", "c-1")["data"].items() if name != "receipt_id"}


class Till(Servers):
    """With what a till sends, and how long it waited for its answer."""

    def post(self, path: str, body: object) -> tuple[Said, float]:
        began = time.monotonic()
        return ask(self.gateway.address, "POST", path, body, {"Prefer": "wait=100"}), time.monotonic() - began


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Till]:
    there = Till(tmp_path)
    try:
        yield there
    finally:
        there.stop()


def is_away(said: Said, seconds: float, what: str) -> bool:
    return (said.status, said.body["code"], said.headers["retry-after"]) == (503, "unavailable", "1") and (
        seconds < QUICK_S and what in said.body["detail"]
    )


def test_kafka_gone_is_told_at_once_and_what_only_reads_goes_on(servers: Till) -> None:
    assert servers.post("/v1/receipts", sale("k-1", "c-1"))[0].status == 202
    servers.broker.kill()
    assert is_away(*servers.post("/v1/receipts", sale("k-2", "c-1")), "Kafka")
    assert is_away(*servers.post("/v1/receipts/batch", {"events": [sale("k-3", "c-1")]}), "Kafka")
    assert is_away(*servers.post("/v1/members", {"data": {"member_id": "m"}}), "Kafka")
    assert is_away(*servers.post("/v1/events", {"events": [CLICK]}), "Kafka")
    assert servers.post("/v1/identify", IDENTIFY)[0].status == 200
    assert servers.post("/v1/quote", BASKET)[0].status == 200
    ready = ask(servers.gateway.address, "GET", "/readyz")
    assert (ready.status, ready.body["kafka"], ready.body["redis"]) == (503, False, True)
    assert ask(servers.gateway.address, "GET", "/healthz").status == 200


def test_redis_gone_or_hanging_is_told_at_once_and_receipts_are_kept(servers: Till) -> None:
    assert servers.post("/v1/identify", IDENTIFY)[0].status == 200
    os.kill(servers.redis.pid, signal.SIGSTOP)
    for path, body in (("/v1/identify", IDENTIFY), ("/v1/quote", BASKET)):
        assert is_away(*servers.post(path, body), "Redis")
    os.kill(servers.redis.pid, signal.SIGCONT)
    assert servers.post("/v1/identify", IDENTIFY)[0].status == 200
    servers.redis.kill()
    for path, body in (("/v1/identify", IDENTIFY), ("/v1/quote", BASKET)):
        assert is_away(*servers.post(path, body), "Redis")
    kept, _ = servers.post("/v1/receipts", sale("r-1", "c-1"))
    assert (kept.status, kept.body["outcome"]) == (202, "pending")
    ready = ask(servers.gateway.address, "GET", "/readyz")
    assert (ready.status, ready.body["redis"], ready.body["worker"]) == (503, False, False)
    servers.redis.start()
    worker = WorkerProcess(servers.stage.config, "points", servers.stage.folder / "worker")
    worker.start()
    try:
        place = Place(servers.stage, worker, servers.gateway)
        deadline = time.monotonic() + 30
        while (known := place.get(kept.headers["location"])).status != 200:
            assert time.monotonic() < deadline, known
            time.sleep(0.1)
        assert known.body["balances"][0]["balance"] == 41
        assert place.post("/v1/receipts", sale("r-2", "c-1")).body["outcome"] == "accepted"
        ready = place.get("/readyz")
        assert (ready.status, ready.body["worker"]) == (200, True)
    finally:
        worker.stop()
    with redis.Redis.from_url(servers.stage.config.redis) as client:
        assert 0 < client.ttl(ALIVE) <= ALIVE_S
        client.delete(ALIVE)  # As it will be in ten seconds, by itself.
    ready = ask(servers.gateway.address, "GET", "/readyz")
    assert ready.body["worker"] is False
    assert (ready.status, ready.body["ready"]) == (200, True)


def test_gateway_told_to_stop_answers_who_waits_and_ends(servers: Till) -> None:
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(ask, servers.gateway.address, "POST", "/v1/receipts", sale("s-1", "c-1"), {"Prefer": "wait=2000"})
        time.sleep(0.5)
        os.kill(servers.gateway.pid, signal.SIGTERM)
        assert (waiting.result().status, waiting.result().body["outcome"]) == (202, "pending")
    deadline = time.monotonic() + 5
    while servers.gateway.running:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [line for line in servers.gateway.log_tail() if "Traceback" in line or "Error" in line] == []
