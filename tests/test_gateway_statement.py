"""A member's statement on a running installation: every movement once, with its reason, page by page, as JSON and CSV."""

import csv
import io
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.gateway_harness import Said, ask, installed
from tests.pipeline_harness import tick
from tests.test_gateway import DAY, came_back, sale
from tillstream.config import Config
from tillstream.sending import Sender

WAIT_S = 60.0
CARD = {"scheme": "card", "value": "2900000000009"}
CSV_UTF8 = "text/csv; charset=utf-8"
PATH = "/v1/members/ada/statement"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway of an installation with ClickHouse, through which a member's history has gone."""
    with installed(tmp_path_factory.mktemp("statement")) as (config, address):
        history(address, config)
        yield address


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
