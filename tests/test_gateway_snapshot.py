"""A gateway whose Redis is gone: who kept a snapshot is quoted by it, exactly as Redis would have said at that moment."""

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.gateway_harness import WAIT, Said, Servers, ask
from tests.pipeline_harness import IDENTITY_KEY
from tests.test_gateway import DAY, sale
from tests.test_gateway_away import QUICK_S, Till, is_away
from tillstream.gateway.snapshots import Snapshots
from tillstream.installation import WorkerProcess
from tillstream.kernels.identities import Seal
from tillstream.schemas.receipts import Identity

PROGRAM = """
program = {id = "kept", currency = "PLN", time_zone = "Europe/Warsaw"}

[units.points]
expires = {after_months = 12, at = "month_end"}
spending = {worth = {points = 10, amount = 10}, max_percent = 50}

[tiers]
window = {months = 12, count = "points"}
levels = [{id = "green", from = 0}, {id = "gold", from = 40}]

[[rules]]
id = "base"
award = {points = 1, per_amount = 100}

[[rules]]
id = "gold"
member = {tier = ["gold"]}
award = {multiply = 2, of = "base"}

[[rules]]
id = "welcome"
award = {fixed = 60}
cap = {budget = 100}
"""
"""What a quote says depends on the member's tier, on what it may pay with, and on what is left of a budget: 40 of 100 after one sale."""

CARD = "2900000000001"
DAY_S = 86_400


class Kept(NamedTuple):
    """Servers, a basket, the quote of it while Redis was there, and the snapshot that came with it."""

    till: Till
    basket: dict[str, Any]
    quoted: dict[str, Any]
    snapshot: str


def basket(card: str, at: str = "13:00:00") -> dict[str, Any]:
    data = sale("x", card, issued_at=f"{DAY}T{at}+01:00")["data"]
    return {name: value for name, value in data.items() if name != "receipt_id"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """A member with points and a tier; Redis is stopped when the tests begin."""
    folder = tmp_path_factory.mktemp("snapshot")
    program = folder / "kept.toml"
    program.write_text(PROGRAM)
    there = Till(folder, program=str(program))
    worker = WorkerProcess(there.config, "points", folder / "worker")
    try:
        worker.start()
        sold = ask(there.gateway.address, "POST", "/v1/receipts", sale("k-1", CARD), WAIT)
        while sold.status == 202:  # The worker is still joining; a receipt that comes again counts once.
            sold = ask(there.gateway.address, "POST", "/v1/receipts", sale("k-1", CARD), WAIT)
        assert (sold.status, sold.body["tier"], sold.body["balances"][0]["balance"]) == (200, "gold", 105)
        quoted = there.post("/v1/quote", basket(CARD) | {"with_snapshot": True})[0].body
        worker.stop()
        there.redis.kill()
        yield Kept(there, basket(CARD), quoted, quoted["snapshot"])
    finally:
        worker.stop()
        there.stop()


def with_redis(servers: Servers, path: str, body: dict[str, Any]) -> Said:
    """An answer while Redis is there for a moment."""
    servers.redis.start()
    try:
        return ask(servers.gateway.address, "POST", path, body)
    finally:
        servers.redis.kill()


def test_quote_by_a_snapshot_is_what_redis_said_then(kept: Kept) -> None:
    assert {rule["rule_id"] for rule in kept.quoted["entries"]} == {"base", "gold", "welcome"}
    assert kept.quoted["earns"] == {"points": 45 + 45 + 40}
    assert kept.quoted["payable"][0]["most"] == 100
    assert (kept.quoted["stale"], kept.quoted["as_of"]) == (False, None)
    said, seconds = kept.till.post("/v1/quote", kept.basket | {"snapshot": kept.snapshot, "with_snapshot": True})
    assert said.status == 200
    as_of = datetime.fromisoformat(said.body["as_of"])
    assert timedelta() < datetime.now(UTC) - as_of < timedelta(minutes=5)
    assert said.body == kept.quoted | {"stale": True, "as_of": said.body["as_of"]}
    assert seconds < QUICK_S


def test_quote_without_a_snapshot_is_503_as_ever(kept: Kept) -> None:
    assert is_away(*kept.till.post("/v1/quote", kept.basket | {"with_snapshot": True}), "Redis")


@pytest.mark.parametrize("spoil", [lambda token: token[:40] + "AAAA" + token[44:], lambda token: token[:-9], lambda token: "x"])
def test_snapshot_that_was_changed_is_refused_by_its_field(kept: Kept, spoil: Any) -> None:
    said, _ = kept.till.post("/v1/quote", kept.basket | {"snapshot": spoil(kept.snapshot)})
    assert (said.status, said.body["code"], said.body["path"]) == (422, "invalid", "$.snapshot")


def test_snapshot_of_another_member_is_refused_by_its_field(kept: Kept) -> None:
    said, _ = kept.till.post("/v1/quote", basket("2900000000002") | {"snapshot": kept.snapshot})
    assert (said.status, said.body["path"], "another identity" in said.body["detail"]) == (422, "$.snapshot", True)


def test_snapshot_that_is_too_old_is_refused_by_its_field(kept: Kept) -> None:
    snapshots, identity = Snapshots(IDENTITY_KEY, DAY_S), Seal(IDENTITY_KEY).sealed(Identity("card", CARD))
    now = snapshots.opened(kept.snapshot, identity, datetime.now(UTC))
    old = snapshots.sealed(msgspec.structs.replace(now, at_ms=now.at_ms - (DAY_S + 60) * 1000))
    said, _ = kept.till.post("/v1/quote", kept.basket | {"snapshot": old})
    assert (said.status, said.body["code"], said.body["path"]) == (409, "outdated", "$.snapshot")


def test_basket_from_before_the_member_s_last_purchase_waits_for_redis(kept: Kept) -> None:
    assert is_away(*kept.till.post("/v1/quote", basket(CARD, "11:00:00") | {"snapshot": kept.snapshot}), "Redis")


def test_snapshot_is_not_looked_at_while_redis_answers_and_identify_gives_one_too(kept: Kept) -> None:
    said = with_redis(kept.till, "/v1/quote", kept.basket | {"snapshot": "none of ours"})
    assert (said.status, said.body["stale"], said.body["snapshot"]) == (200, False, None)
    identity = {"identity": {"scheme": "card", "value": CARD}}
    assert with_redis(kept.till, "/v1/identify", identity).body["snapshot"] is None
    token = with_redis(kept.till, "/v1/identify", identity | {"with_snapshot": True}).body["snapshot"]
    assert kept.till.post("/v1/quote", kept.basket | {"snapshot": token})[0].body["stale"] is True


def test_redis_that_hangs_is_not_waited_for_long(kept: Kept) -> None:
    kept.till.redis.start()
    os.kill(kept.till.redis.pid, signal.SIGSTOP)
    said, seconds = kept.till.post("/v1/quote", kept.basket | {"snapshot": kept.snapshot})
    os.kill(kept.till.redis.pid, signal.SIGCONT)
    kept.till.redis.kill()
    assert (said.status, said.body["stale"], seconds < QUICK_S) == (200, True, True)
