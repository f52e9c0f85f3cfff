"""A gateway with a spool while Kafka hangs, and is back: what its till was told is kept is in Kafka, in order, whoever was killed."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.gateway_harness import Said, Servers, ask
from tests.test_gateway import sale
from tillstream.gateway.segments import SUFFIX
from tillstream.installation import GatewayProcess
from tillstream.streams.topics import RECEIPTS

QUICK_S = 1.4
"""A second, and what a machine shared with others takes on top."""

DRAINED_S = 30.0
CARD = "2901234567890"
LATER = "2199-01-01T00:00:00Z"


class Spooling(Servers):
    """With a spool, and a broker that can hang."""

    def __init__(self, folder: Path, bytes_max: int = 1_000_000) -> None:
        self.spool = folder / "spool"
        super().__init__(folder, spool_folder=str(self.spool), spool_bytes_max=bytes_max)

    def post(self, path: str, body: Any) -> Said:
        return ask(self.gateway.address, "POST", path, body, {"Prefer": "wait=50"})

    def receipt(self, name: str) -> Said:
        return self.post("/v1/receipts", sale(name, CARD))

    def ready(self) -> Said:
        return ask(self.gateway.address, "GET", "/readyz")

    def hang(self) -> None:
        """Stops the broker where it is; on a busy machine its threads may run on for a moment after the signal."""
        os.kill(self.broker.pid, signal.SIGSTOP)
        deadline = time.monotonic() + QUICK_S
        while any(") T " not in path.read_text() for path in Path(f"/proc/{self.broker.pid}/task").glob("*/stat")):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def go_on(self) -> None:
        os.kill(self.broker.pid, signal.SIGCONT)

    def sent(self) -> list[str]:
        """Receipts in Kafka in the order of their first appearance in each partition; all of one till are in one partition."""
        data = [orjson.loads(message.value() or b"")["data"] for message in self.stage.records(RECEIPTS)]
        # The hold, too, may be there: Kafka took it when it went on, and nobody was told that it did.
        return list(dict.fromkeys(item["receipt_id"] for item in data if "receipt_id" in item))

    def drained(self) -> None:
        deadline = time.monotonic() + DRAINED_S
        while self.ready().body["spooled"] > 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def stop(self) -> None:
        self.go_on()
        super().stop()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Spooling]:
    there = Spooling(tmp_path)
    try:
        yield there
    finally:
        there.stop()


def spooled(said: Said) -> bool:
    return (said.status, said.body.get("outcome")) == (202, "spooled") and said.headers["location"] == said.body["status"]


def test_receipts_go_to_disk_while_kafka_hangs_and_in_order_into_kafka_afterwards(servers: Spooling) -> None:
    assert servers.receipt("r-0").body["outcome"] == "pending"
    servers.hang()
    began = time.monotonic()
    assert spooled(servers.receipt("r-1"))
    assert time.monotonic() - began < QUICK_S
    began = time.monotonic()
    assert all(spooled(servers.receipt(f"r-{number}")) for number in range(2, 20))
    assert time.monotonic() - began < QUICK_S  # Only the first waited for Kafka.
    batch = servers.post("/v1/receipts/batch", {"events": [sale("r-20", CARD), {"type": "receipt.sale"}, sale("r-21", CARD)]})
    assert [outcome["outcome"] for outcome in batch.body["outcomes"]] == ["spooled", "refused", "spooled"]
    hold = {"data": {"hold_id": "h", "member": {"scheme": "card", "value": CARD}, "unit": "points", "points": 5, "expires_at": LATER}}
    assert servers.post("/v1/holds", hold).status == 503
    ready = servers.ready()
    assert (ready.status, ready.body["kafka"], ready.body["spooled"]) == (200, False, 21)
    assert not [path for path in servers.spool.glob(f"*{SUFFIX}") if CARD.encode() in path.read_bytes()]
    servers.go_on()
    servers.drained()
    assert servers.receipt("r-22").body["outcome"] == "pending"
    assert servers.sent() == [f"r-{number}" for number in range(23)]
    assert not list(servers.spool.glob(f"*{SUFFIX}"))


def test_gateway_killed_while_kafka_is_away_keeps_what_it_said_it_keeps(servers: Spooling) -> None:
    servers.hang()
    told = [f"r-{number}" for number in range(10)]
    for name in told:
        assert spooled(said := servers.receipt(name)), said
    servers.gateway.kill()
    servers.go_on()
    servers.gateway.start()
    servers.drained()
    assert servers.sent() == told


def test_full_spool_refuses_and_a_second_gateway_is_refused_the_folder(tmp_path: Path) -> None:
    servers = Spooling(tmp_path, bytes_max=3_000)
    try:
        second = GatewayProcess(servers.config, tmp_path / "second")
        with pytest.raises(Exception, match=r"spool_folder: .* another process has this spool"):
            second.start()
        servers.hang()
        said = [servers.receipt(f"r-{number}") for number in range(8)]
        kept = sum(map(spooled, said))
        assert 1 <= kept < 8
        assert {(answer.status, answer.headers["retry-after"]) for answer in said[kept:]} == {(503, "1")}
        servers.go_on()
        servers.drained()
        assert servers.sent() == [f"r-{number}" for number in range(kept)]
        assert servers.receipt("r-9").body["outcome"] == "pending"
    finally:
        servers.stop()
