"""A member's statement on a running installation: every movement once, with its reason, page by page, as JSON and CSV."""

import csv
import io
import time
from collections import Counter
from collections.abc import Iterator

import pytest
import redis

from tests.gateway_harness import Said, ask, installed
from tests.pipeline_harness import tick
from tests.test_gateway import DAY, came_back, sale
from tillstream.config import Config
from tillstream.kernels.keys import natural_key
from tillstream.sending import Sender
from tillstream.sinks.state import keys

WAIT_S = 60.0
CARD = {"scheme": "card", "value": "2900000000009"}
CSV_UTF8 = "text/csv; charset=utf-8"
PATH = "/v1/members/ada/statement"


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Config, str]]:
    """An installation with ClickHouse, and the address of its gateway, through which a member's history has gone."""
    with installed(tmp_path_factory.mktemp("statement")) as (config, address):
        history(address, config)
        yield config, address


@pytest.fixture
def address(installation: tuple[Config, str]) -> str:
    return installation[1]


def history(address: str, config: Config) -> None:
    """A sale before the card was enrolled and two after it, a return, points spent, and a tick by which the rest expires."""
    wait = {"Prefer": "wait=10000"}

    def post(path: str, body: object) -> None:
        said = ask(address, "POST", path, body, wait)
        assert (said.status, said.body["outcome"]) == (200, "accepted"), said.body

    post("/v1/receipts", sale("a-1", CARD["value"]))
    post("/v1/members", {"data": {"member_id": "ada", "identities": [CARD]}, "time": f"{DAY}T12:30:00Z"})
    later = {"issued_at": f"{DAY}T14:00:00+01:00"}
    post("/v1/receipts", sale("a-2", CARD["value"], **later))
    post("/v1/receipts", came_back("a-3", "a-2", 800))
    spend = {"data": {"redemption_id": "r1", "member": CARD, "points": 20}, "time": f"{DAY}T20:00:00Z"}
    post("/v1/redemptions", spend)
    Sender(config).send([tick("2026-12-20")])
    deadline = time.monotonic() + WAIT_S
    while not (ready(ask(address, "GET", PATH + "?limit=1000"))):
        assert time.monotonic() < deadline, ask(address, "GET", PATH).body
        time.sleep(0.3)


def ready(said: Said) -> bool:
    return said.status == 200 and said.body["complete"] and any(line["kind"] == "expiry" for line in said.body["lines"])


@pytest.mark.slow
def test_statement_adds_up_to_the_balance_and_gives_every_reason(address: str) -> None:
    said = ask(address, "GET", PATH)
    assert (said.status, said.body["complete"], said.body["next"]) == (200, True, None)
    sums: Counter[str] = Counter()
    for line in said.body["lines"]:
        sums[line["unit"]] += line["points"]
    balances = ask(address, "POST", "/v1/identify", {"identity": CARD}).body["balances"]
    assert dict(sums) == {each["unit"]: each["balance"] for each in balances} == {"points": 0, "stamps": 4}
    moments = [line["occurred_at"] for line in said.body["lines"]]
    assert moments == sorted(moments, reverse=True)
    assert [line["reason"] for line in said.body["lines"] if line["receipt_id"] == "a-2"] == [
        "rule coffee-stamps: 2 for 9.40 PLN",
        "rule dairy-double: 16 for 15.99 PLN",
        "rule base: 25 for 25.39 PLN, 9 of them for this line",
        "rule base: 25 for 25.39 PLN, 16 of them for this line",
    ]
    reasons = {line["kind"]: line["reason"] for line in said.body["lines"]}
    assert reasons["reversal"] == "rule base: taken back, goods were returned"
    assert (reasons["redemption"], reasons["expiry"]) == ("paid with points", "expired")


@pytest.mark.slow
def test_pages_follow_each_other_and_hold_every_entry_once(address: str) -> None:
    whole = ask(address, "GET", PATH).body["lines"]
    found, cursor, pages = [], "", 0
    while True:
        said = ask(address, "GET", f"{PATH}?limit=3" + (f"&cursor={cursor}" if cursor else ""))
        found += said.body["lines"]
        pages += 1
        cursor = said.body["next"]
        if cursor is None:
            assert "link" not in said.headers
            break
        assert said.headers["link"] == f'<{PATH}?limit=3&cursor={cursor}>; rel="next"'
    assert found == whole
    assert pages == -(-len(whole) // 3)


@pytest.mark.slow
def test_csv_has_the_same_in_rows(address: str) -> None:
    whole = ask(address, "GET", PATH).body["lines"]
    said = ask(address, "GET", PATH, None, {"Accept": "text/csv"})
    assert said.headers["content-type"] == CSV_UTF8
    rows = list(csv.DictReader(io.StringIO(said.body.decode())))
    assert rows == [{name: "" if value is None else str(value) for name, value in line.items()} for line in whole]


@pytest.mark.slow
def test_statement_of_nobody_is_empty(address: str) -> None:
    said = ask(address, "GET", "/v1/members/nobody/statement")
    assert (said.status, said.body["lines"], said.body["next"]) == (200, [], None)


@pytest.mark.slow
def test_receipts_that_redis_has_let_go_are_known_from_history(installation: tuple[Config, str]) -> None:
    config, address = installation
    paths = [f"/v1/receipts/{receipt}?source=tills%2FPL-1" for receipt in ("a-1", "a-3")]
    paths.append(f"/v1/outcomes/{natural_key('tills/PL-1', 'a-2')}")
    before = [ask(address, "GET", path) for path in paths]
    assert [said.status for said in before] == [200] * 3
    with redis.Redis.from_url(config.redis) as client:
        postings = {key: client.hgetall(key) for partition in range(config.partitions) if client.exists(key := keys(partition)[2])}
        client.delete(*postings)
        assert [ask(address, "GET", path).status for path in paths] == [404] * 3  # Nothing is let go: it would be here.
        client.hset(keys(0)[0], "horizon", "20261120")
        try:
            assert [ask(address, "GET", path).body for path in paths] == [said.body for said in before]
            for nothing in ("/v1/receipts/never?source=tills%2FPL-1", f"/v1/outcomes/{'0' * 32}", "/v1/outcomes/x%27--"):
                assert ask(address, "GET", nothing).status == 404
        finally:
            client.hdel(keys(0)[0], "horizon")
            for key, held in postings.items():
                client.hset(key, mapping=held)
