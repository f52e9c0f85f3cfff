"""What is wrong with a request is told as a problem that names the field, and nothing of it reaches Kafka."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.gateway_harness import Place, gateway
from tests.test_gateway import LINES, head, sale
from tillstream.gateway.problems import PROBLEM_JSON
from tillstream.streams.topics import MEMBERS, RECEIPTS

__all__ = ["gateway"]

SALE = sale("wrong", "c-1")
BASKET = {name: value for name, value in SALE["data"].items() if name != "receipt_id"}
MEMBER = {"scheme": "member", "value": "m1"}


def with_line(**change: Any) -> dict[str, Any]:
    return SALE | {"data": SALE["data"] | {"lines": [LINES[0], LINES[1] | change]}}


def with_data(**change: Any) -> dict[str, Any]:
    return SALE | {"data": SALE["data"] | change}


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "field"),
    [
        ("/v1/receipts", b"", 422, "invalid", "$"),
        ("/v1/receipts", b"{", 400, "not_json", "$"),
        ("/v1/receipts", b"\xff", 400, "not_json", "$"),
        ("/v1/receipts", b"[" * 100_000, 400, "too_deep", "$"),
        ("/v1/receipts", b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "too_deep", "$"),
        ("/v1/receipts", [], 422, "invalid", "$"),
        ("/v1/receipts", {}, 422, "invalid", "$"),
        ("/v1/receipts", {"type": "receipt.sale"}, 422, "invalid", "$"),
        ("/v1/receipts", {"type": 5, "data": {}}, 422, "invalid", "$.type"),
        ("/v1/receipts", SALE | {"type": "points.adjust"}, 422, "invalid", "$.type"),
        ("/v1/receipts", SALE | {"type": "points.transferred"}, 422, "invalid", "$.type"),
        ("/v1/receipts", SALE | {"accountid": "m2"}, 422, "invalid", "$.accountid"),
        ("/v1/receipts", SALE | {"recalled": ""}, 422, "invalid", "$.recalled"),
        ("/v1/receipts", SALE | {"source": ""}, 422, "invalid", "$.source"),
        ("/v1/receipts", SALE | {"source": 7}, 422, "invalid", "$.source"),
        ("/v1/receipts", SALE | {"time": "yesterday"}, 422, "invalid", "$.time"),
        ("/v1/receipts", SALE | {"data": None}, 422, "invalid", "$.data"),
        ("/v1/receipts", with_data(store_id=1), 422, "invalid", "$.data.store_id"),
        ("/v1/receipts", with_data(issued_at="2026-11-20T12:00:00"), 422, "invalid", "$.data.issued_at"),
        ("/v1/receipts", with_data(issued_at="1969-11-20T12:00:00Z"), 422, "invalid", "$.data.issued_at"),
        ("/v1/receipts", with_data(lines=[LINES[0]] * 2), 422, "invalid", "$.data.lines[1].line_no"),
        ("/v1/receipts", with_line(amount=-1), 422, "invalid", "$.data.lines[1].amount"),
        ("/v1/receipts", with_line(amount=1.5), 422, "invalid", "$.data.lines[1].amount"),
        ("/v1/receipts", with_line(kind="gift"), 422, "invalid", "$.data.lines[1].kind"),
        ("/v1/receipts", with_data(tenders=[{"type": "points", "amount": 10**6}]), 422, "invalid", "$.data.tenders"),
        ("/v1/receipts", with_data(padding="x" * 1_000_000), 413, "too_large", "$"),
        ("/v1/receipts", with_data(padding="x" * 5_000_000), 413, "too_large", None),
        ("/v1/receipts", {"type": "receipt.void", "data": {"receipt_id": "x"}}, 422, "invalid", "$.source"),
        ("/v1/receipts/batch", {"events": []}, 422, "invalid", "$.events"),
        ("/v1/receipts/batch", {"events": [SALE] * 501}, 422, "invalid", "$.events"),
        ("/v1/receipts/batch", {"events": 5}, 422, "invalid", "$.events"),
        ("/v1/quote", BASKET | {"lines": [LINES[0] | {"sku": ""}]}, 422, "invalid", "$.lines[0].sku"),
        ("/v1/quote", BASKET | {"lines": [LINES[0]] * 2}, 422, "invalid", "$.lines[1].line_no"),
        ("/v1/quote", BASKET | {"currency": "EUR"}, 422, "currency", "$.currency"),
        ("/v1/quote", BASKET | {"tenders": [{"type": "points", "amount": 1, "points": 1, "unit": "x"}]}, 422, "unknown_unit",
         "$.tenders[0].unit"),
        ("/v1/quote", BASKET | {"lines": [LINES[0] | {"amount": 2**63}]}, 422, "invalid", "$.lines[0].amount"),
        ("/v1/identify", {"identity": {"scheme": "face", "value": "x"}}, 422, "invalid", "$.identity.scheme"),
        ("/v1/identify", {}, 422, "invalid", "$"),
        ("/v1/holds", {"data": {"hold_id": "h", "member": MEMBER, "points": 0, "expires_at": "2026-11-20T20:00:00Z"}}, 422, "invalid",
         "$.data.points"),
        ("/v1/holds/h/release", {"data": {}}, 422, "invalid", "$.data"),
        ("/v1/holds/h/release", {"data": []}, 422, "invalid", "$.data"),
        ("/v1/activities", {"type": "activity.", "data": {"member": MEMBER}}, 422, "invalid", "$.type"),
        ("/v1/activities", {"type": "receipt.sale", "data": {"member": MEMBER}}, 422, "invalid", "$.type"),
        ("/v1/activities", {"data": {"member": MEMBER}}, 422, "invalid", "$"),
        ("/v1/members", {"data": {"member_id": "m", "birth_date": "1990-02-30"}}, 422, "invalid", "$.data.birth_date"),
        ("/v1/members/m/consents", {"data": {"consents": {"marketing": "yes"}}}, 422, "invalid", "$.data.consents[...]"),
        ("/v1/members/m/merge", {"data": {}}, 422, "invalid", "$.data"),
    ],
)  # fmt: skip
def test_malformed_request_names_its_field(gateway: Place, path: str, body: Any, status: int, code: str, field: str | None) -> None:
    said = gateway.post(path, body)
    assert (said.status, said.body["code"], said.body.get("path")) == (status, code, field), said.body
    assert said.headers["content-type"] == PROBLEM_JSON
    assert said.body["status"] == status
    assert said.body["request_id"] == said.headers["x-request-id"]
    assert said.body["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/quote", 405),
        ("DELETE", "/v1/members/m1/erase", 405),
        ("POST", "/healthz", 405),
        ("GET", "/v1/receipts/x", 422),
        ("GET", "/v1/receipts/x?source=s&void=maybe", 422),
        ("GET", "/v1/receipts/x?source=s", 404),
        ("GET", "/v1/outcomes/00000000000000000000000000000000", 404),
        ("GET", "/v1/members/m1/statement?limit=0", 422),
        ("GET", "/v1/members/m1/statement?limit=x", 422),
        ("GET", "/v1/members/m1/statement?cursor=x", 422),
        ("GET", "/v1/members/m1/statement?cursor=k80BAKEw_w", 422),
    ],
)
def test_what_is_not_there_or_not_meant_so_is_a_problem_too(gateway: Place, method: str, path: str, status: int) -> None:
    where = urlsplit(gateway.gateway.address)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    said = json.loads(answer.read())
    connection.close()
    assert (answer.status, said["status"], answer.headers["Content-Type"]) == (status, status, PROBLEM_JSON)
    assert ("Allow" in answer.headers) == (status == 405)


def test_idempotency_key_that_is_no_id_is_refused(gateway: Place) -> None:
    said = gateway.post("/v1/receipts", SALE, {"Idempotency-Key": "x" * 300})
    assert (said.status, said.body["path"]) == (422, "header Idempotency-Key")


def test_nothing_malformed_has_reached_kafka(gateway: Place) -> None:
    before = [len(gateway.stage.records(topic, count)) for topic, count in ((RECEIPTS, 4), (MEMBERS, 1))]
    gateway.post("/v1/receipts", with_line(amount=-1))
    gateway.post("/v1/members", {"data": {}})
    assert [len(gateway.stage.records(topic, count)) for topic, count in ((RECEIPTS, 4), (MEMBERS, 1))] == before == [0, 0]


def test_a_preference_that_cannot_be_read_counts_as_none(gateway: Place) -> None:
    body = {"type": "receipt.sale", "data": head("prefer") | {"lines": LINES}}
    said = gateway.post("/v1/receipts", body, {"Prefer": "wait=soon, handling=lenient"})
    assert said.status in {200, 202}
