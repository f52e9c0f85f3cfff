"""Keys in front of a real gateway: who may do what, whom nobody tells apart, and what the audit log has of it."""

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from click.testing import CliRunner
from msgspec.structs import replace

from tests.gateway_harness import Said, ask
from tests.pipeline_harness import Stage, stage
from tests.test_gateway import sale
from tillstream.cli import main
from tillstream.gateway.keys import parse_token
from tillstream.gateway.masking import MASK
from tillstream.gateway.permits import MAY
from tillstream.gateway.signing import NONCE, SIGNATURE, TIMESTAMP, signed_headers
from tillstream.gateway.table import ROUTES
from tillstream.gateway.triggers import EVENT_STREAM
from tillstream.installation import GatewayProcess, environment_of
from tillstream.schemas.audit import Action, decode_action
from tillstream.schemas.keys import SCOPES
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import AUDIT, RECEIPTS

NO_WAIT = {"Prefer": "wait=0"}
FOLLOWED_S = 20.0
LATER = "2199-01-01T00:00:00Z"
BURST = 30
RATES = f"till=20/{BURST} read=1/3"

CARD, PHONE, EMAIL = "2901234567890", "+48 601 234 567", "somebody@example.org"
"""Personal values that are sent in every way, and must be in no log."""


class Place(NamedTuple):
    """A gateway that wants keys, and one token per kind of key."""

    stage: Stage
    gateway: GatewayProcess
    tokens: dict[str, str]

    def ask(self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str) -> Said:
        own = {"Authorization": f"Bearer {token}"} if token is not None else {}
        return ask(self.gateway.address, method, path, body, {**NO_WAIT, **own, **headers})

    def post(self, path: str, body: Any, token: str | None = None, **headers: str) -> Said:
        return self.ask("POST", path, body, token, **headers)

    def signed(self, path: str, body: Any, **changed: str) -> Said:
        """A request signed by the key `signed`; `changed` headers are exchanged afterwards."""
        raw = orjson.dumps(body)
        token = parse_token(self.tokens["signed"])
        assert token is not None
        headers = signed_headers(token.key_id, token.secret, "POST", path, int(time.time()), os.urandom(16).hex(), raw)
        return self.post(path, raw, **{**headers, **changed})

    def actions(self) -> list[Action]:
        return [decode_action(message.value() or b"") for message in read_topic(self.stage.kafka, AUDIT, 0, 0)]


def created(here: Stage, *options: str) -> str:
    result = CliRunner().invoke(main, ["keys", "create", *options, "--json"], env=environment_of(here.config))
    assert result.exit_code == 0, result.output
    token: str = orjson.loads(result.stdout)["token"]
    return token


@contextmanager
def place(folder: Path) -> Iterator[Place]:
    with stage(folder) as here:
        tokens: dict[str, str] = {scope: created(here, "--scope", scope) for scope in SCOPES if scope != "till"}
        tokens["till"] = created(here, "--scope", "till", "--store", "PL-1", "--name", "till of store 1")
        tokens["signed"] = created(here, "--scope", "till", "--store", "PL-1", "--signed")
        config = replace(here.config, gateway_auth=True, gateway_rates=RATES, log_level="debug")
        gateway = GatewayProcess(config, folder / "gateway")
        gateway.start()
        try:
            yield Place(here, gateway, tokens)
        finally:
            gateway.stop()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("gateway")) as there:
        yield there


def test_every_route_lets_the_scopes_through_that_it_is_for_and_no_other(guarded: Place) -> None:
    for route in ROUTES:
        path = re.sub(r"\{\w+\}", "x1", route.path) + ("?after=none" if route.answers.get(200) == EVENT_STREAM else "")
        body = b"{}" if route.takes is not None else None
        if route.scope is None:
            assert guarded.ask(route.method, path).status in {200, 503}
            continue
        assert guarded.ask(route.method, path, body).status == 401
        for scope in ("clicks", "members", "campaigns", "admin"):  # The others have a small share here.
            allowed = route.scope in MAY[scope]
            assert (guarded.ask(route.method, path, body, guarded.tokens[scope]).status == 403) is not allowed, (route.name, scope)
    assert guarded.post("/v1/members", {}, guarded.tokens["read"]).status == 403
    assert guarded.post("/v1/members", {}, guarded.tokens["till"]).status == 403


def test_key_in_the_address_sends_page_views_and_does_nothing_else(guarded: Place) -> None:
    click, till = guarded.tokens["clicks"], guarded.tokens["till"]
    statuses = [guarded.post(f"/v1/events?key={token}", {}).status for token in (click, till, click[:-1], "")]
    assert statuses == [422, 401, 401, 401]
    assert guarded.post(f"/v1/identify?key={till}", {"scheme": "card", "value": CARD}).status == 401


def test_refusals_for_want_of_a_key_are_alike(guarded: Place) -> None:
    token = parse_token(guarded.tokens["admin"])
    assert token is not None
    wrong = [
        {},
        {"Authorization": guarded.tokens["admin"]},
        {"Authorization": f"Basic {guarded.tokens['admin']}"},
        {"Authorization": f"Bearer ts_{token.key_id}_{'a' * 32}"},
        {"Authorization": f"Bearer ts_{'0' * 16}_{token.secret}"},
        {"Authorization": f"Bearer {guarded.tokens['signed']}"},
        {"Authorization": "Bearer \xff"},
    ]
    said = [guarded.post("/v1/identify", {}, **headers) for headers in wrong]
    assert {answer.status for answer in said} == {401}
    assert {answer.headers["www-authenticate"] for answer in said} == {'Bearer realm="tillstream"'}
    assert len({orjson.dumps({**answer.body, "request_id": ""}) for answer in said}) == 1


def test_till_posts_receipts_of_its_own_stores_only(guarded: Place) -> None:
    till = guarded.tokens["till"]

    def post(body: dict[str, Any]) -> Said:
        return guarded.post("/v1/receipts", body, till)

    assert post(sale("own-1", CARD)).status == 202
    other = sale("other-1", CARD)
    other["data"] = other["data"] | {"store_id": "PL-2"}
    for body, field in (
        (other, "$.data.store_id"),
        (sale("own-2", CARD) | {"source": "tills/PL-2"}, "$.source"),
        (sale("own-2", CARD) | {"source": "crm"}, "$.source"),
        ({"type": "receipt.void", "data": {"receipt_id": "x"}, "source": "tills/PL-2"}, "$.source"),
        ({"type": "receipt.void", "data": {"receipt_id": "x", "store_id": "PL-2"}}, "$.source"),
    ):
        said = post(body)
        assert (said.status, said.body["code"], said.body["path"]) == (403, "forbidden", field), body
    assert post({"type": "receipt.void", "data": {"receipt_id": "x", "store_id": "PL-1"}}).status == 202
    batch = guarded.post("/v1/receipts/batch", {"events": [sale("own-3", CARD), other]}, till)
    assert [outcome["outcome"] for outcome in batch.body["outcomes"]] == ["pending", "refused"]
    assert batch.body["outcomes"][1]["problem"]["path"] == "$.events[1].data.store_id"
    assert guarded.ask("GET", "/v1/receipts/own-1?source=tills%2FPL-1", token=till).status == 404  # No worker runs.
    assert guarded.ask("GET", "/v1/receipts/own-1?source=tills%2FPL-2", token=till).status == 403
    hold = {"data": {"hold_id": "h", "member": {"scheme": "card", "value": CARD}, "unit": "points", "points": 5, "expires_at": LATER}}
    assert guarded.post("/v1/holds", hold | {"source": "tills/PL-2"}, till).status == 403


def test_signed_request_is_taken_once_in_time_and_unchanged(guarded: Place) -> None:
    body = sale("signed-1", CARD)
    raw = orjson.dumps(body)
    token = parse_token(guarded.tokens["signed"])
    assert token is not None
    now, path = int(time.time()), "/v1/receipts?x=%2F"
    headers = signed_headers(token.key_id, token.secret, "POST", path, now, "n" * 16, raw)
    assert guarded.post(path, raw, **headers).status == 202
    assert guarded.post(path, raw, **headers).status == 401
    assert guarded.signed("/v1/receipts", body).status == 202
    for changed in ({TIMESTAMP: str(now - 1)}, {NONCE: "m" * 16}, {SIGNATURE: "0" * 64}, {SIGNATURE: ""}):
        assert guarded.signed("/v1/receipts", body, **changed).status == 401
    fresh = signed_headers(token.key_id, token.secret, "POST", "/v1/receipts", now, "o" * 16, raw)
    assert guarded.post("/v1/receipts/batch", raw, **fresh).status == 401
    assert guarded.post("/v1/receipts", raw + b" ", **fresh).status == 401
    assert guarded.post("/v1/receipts", raw, **fresh).status == 202
    for late in (now - 310, now + 310):
        old = signed_headers(token.key_id, token.secret, "POST", "/v1/receipts", late, "p" * 16, raw)
        assert guarded.post("/v1/receipts", raw, **old).status == 401


def test_key_that_asks_too_much_waits_and_others_do_not(guarded: Place) -> None:
    greedy, quiet = (created(guarded.stage, "--scope", "read") for _ in range(2))
    until_known(guarded, greedy, quiet)
    deadline = time.monotonic() + FOLLOWED_S
    while (said := guarded.post("/v1/identify", {}, greedy)).status != 429:
        assert time.monotonic() < deadline
    assert (said.body["code"], said.headers["retry-after"], said.headers["content-type"]) == (
        *("too_many_requests", "1"),
        "application/problem+json",
    )
    assert guarded.post("/v1/identify", {}, quiet).status == 422
    before = len(guarded.actions())
    assert guarded.post("/v1/members", {}, greedy).status == 403
    assert len(guarded.actions()) == before + 1
    time.sleep(1.1)
    assert guarded.post("/v1/identify", {}, greedy).status == 422


def test_batch_counts_as_many_requests_as_it_has_receipts(guarded: Place) -> None:
    token = created(guarded.stage, "--scope", "till", "--store", "PL-1")
    until_known(guarded, token)
    larger = guarded.post("/v1/receipts/batch", batch("larger", BURST + 1), token)
    assert (larger.status, larger.body["code"], larger.body["path"]) == (413, "too_large", "$.events")
    assert f"{BURST} at once" in larger.body["detail"]
    time.sleep(0.2)
    assert guarded.post("/v1/receipts/batch", batch("whole", BURST), token).status == 200
    early = guarded.post("/v1/receipts/batch", batch("early", BURST - 1), token)
    assert early.status == 429
    assert early.headers["retry-after"] in {"1", "2"}
    assert {name.split("-")[0] for name in receipts_sent(guarded)} & {"larger", "early", "whole"} == {"whole"}
    time.sleep(int(early.headers["retry-after"]))
    assert guarded.post("/v1/receipts/batch", batch("early", BURST - 1), token).status == 200


def batch(name: str, count: int) -> dict[str, Any]:
    return {"events": [sale(f"{name}-{number}", CARD) for number in range(count)]}


def receipts_sent(guarded: Place) -> set[str]:
    """The receipts that Kafka has."""
    config = guarded.stage.config
    messages = [message for place in range(config.partitions) for message in read_topic(guarded.stage.kafka, RECEIPTS, place, 0)]
    return {orjson.loads(message.value() or b"")["data"]["receipt_id"] for message in messages}


def test_revoked_key_is_refused_within_seconds(guarded: Place) -> None:
    token = created(guarded.stage, "--scope", "campaigns")
    until_known(guarded, token)
    parsed = parse_token(token)
    assert parsed is not None
    result = CliRunner().invoke(main, ["keys", "revoke", parsed.key_id], env=environment_of(guarded.stage.config))
    assert result.exit_code == 0
    deadline = time.monotonic() + FOLLOWED_S
    while guarded.post("/v1/identify", {}, token).status != 401:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def until_known(guarded: Place, *tokens: str) -> None:
    """Waits until the gateway has heard of new keys; costs each some of its share."""
    deadline = time.monotonic() + FOLLOWED_S
    for token in tokens:
        while guarded.post("/v1/identify", {}, token).status == 401:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_audit_log_has_every_change_of_members_and_who_made_it(guarded: Place) -> None:
    admin, members = guarded.tokens["admin"], guarded.tokens["members"]
    before = len(guarded.actions())
    identities = [{"scheme": "card", "value": CARD}, {"scheme": "email", "value": EMAIL}]
    assert guarded.post("/v1/members", {"data": {"member_id": "m1", "identities": identities}}, members).status == 202
    assert guarded.post("/v1/members/m1/merge", {"data": {"into": "m2"}}, members).status == 403
    assert guarded.post("/v1/members/m1/merge", {"data": {"into": "m2"}}, admin).status == 202
    adjust = {"adjustment_id": "a1", "member": identities[0], "unit": "points", "points": 5, "reason": "sorry", "actor": "ann"}
    assert guarded.post("/v1/adjustments", {"data": adjust}, admin).status == 202
    assert guarded.post("/v1/adjustments", {"data": {}}, admin).status == 422
    assert guarded.post("/v1/members/m1/erase", {}, "nonsense").status == 401
    told = guarded.actions()[before:]
    assert [(action.action, action.outcome, action.status) for action in told] == [
        *(("enrol", "accepted", 202), ("merge", "refused", 403), ("merge", "accepted", 202)),
        *(("adjust", "accepted", 202), ("adjust", "refused", 422)),
    ]
    assert [action.about for action in told[:3]] == [["m1"], ["m1"], ["m1", "m2"]]
    assert told[3].about[0].startswith("card blake2b:")
    by = [parse_token(token) for token in (members, members, admin, admin, admin)]
    assert [action.key_id for action in told] == [token and token.key_id for token in by]
    assert all(action.request_id for action in told)
    raw = b"".join(message.value() or b"" for message in read_topic(guarded.stage.kafka, AUDIT, 0, 0))
    assert not [value for value in (CARD, EMAIL) if value.encode() in raw]


def test_no_personal_value_and_no_secret_is_in_the_log(guarded: Place) -> None:
    """At level debug, in every request that a till or a shop may get wrong, in address, header and body."""
    admin = guarded.tokens["admin"]
    for value in (CARD, PHONE, EMAIL):
        identity = {"scheme": "card", "value": value}
        for body in ({"identity": identity}, {"identity": {"scheme": value, "value": value}}, value):
            guarded.post("/v1/identify", body, admin)
        guarded.post("/v1/receipts", sale(value, value), admin)
        guarded.post("/v1/receipts", sale("r", value) | {"type": value}, admin)
        guarded.post("/v1/members", {"data": {"member_id": "m1", "identities": [identity]}}, admin, **{"Idempotency-Key": value})
        quoted = value.replace(" ", "%20").replace("+", "%2B")
        guarded.ask("GET", f"/v1/members/{quoted}/statement", token=admin)
        guarded.ask("GET", f"/{quoted}?card={quoted}", token=admin, **{"X-Request-Id": value.replace(" ", "")})
        with socket.create_connection(("127.0.0.1", guarded.gateway.port), 5) as connection:
            connection.sendall(f"GET /{value} HTTP/1.1\r\nCard {value}: x\r\n\r\n".encode())
            connection.recv(1000)
    log = guarded.gateway.log_path.read_text()
    assert "DEBUG" in log
    assert MASK in log
    secrets = [token.rpartition("_")[2] for token in guarded.tokens.values()]
    assert not [value for value in (CARD, PHONE, PHONE.replace(" ", ""), EMAIL, EMAIL.replace("@", "%40"), *secrets) if value in log]


def test_gateway_without_keys_refuses_to_listen_to_others(guarded: Place) -> None:
    for changed, words in (
        ({"gateway_auth": "false", "gateway_host": "0.0.0.0"}, "gateway_auth: keys are off"),
        ({"gateway_rates": "till=0"}, "gateway_rates: 'till=0' is not"),
    ):
        variables = {f"TILLSTREAM_{name.upper()}": value for name, value in changed.items()}
        result = CliRunner().invoke(main, ["gateway"], env={**environment_of(guarded.stage.config), **variables})
        assert result.exit_code == 2, result.output
        assert words in result.stderr
