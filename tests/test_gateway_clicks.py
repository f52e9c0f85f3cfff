"""Page views over HTTP, without a browser: what stands on `clickstream`, what is refused and how, which pages may send."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec import structs

from tests.gateway_harness import Said, ask
from tests.pipeline_harness import PARTITIONS, Stage, stage
from tests.test_clickstream import ITEM, PAGE
from tillstream.cli import main
from tillstream.gateway.clicks import CLICKS_BYTES_MAX
from tillstream.gateway.problems import PROBLEM_JSON
from tillstream.gateway.producer import KafkaAway, KafkaEvents, Lane, LaneFull
from tillstream.installation import GatewayProcess, environment_of
from tillstream.schemas.clickstream import decode_click
from tillstream.sinks.writer import Record
from tillstream.streams.topics import CLICKSTREAM

SHOP = "https://shop.example.org"
CARD = {"scheme": "card", "value": "2901234567890"}
TEXT = {"Content-Type": "text/plain;charset=UTF-8", "Origin": SHOP}


class Shop:
    """A gateway that takes page views of one shop; no worker."""

    def __init__(self, stage: Stage, address: str) -> None:
        self.stage = stage
        self.address = address

    def send(self, body: Any, headers: dict[str, str] | None = None) -> Said:
        return ask(self.address, "POST", "/v1/events?key=public", body, TEXT if headers is None else headers)

    def stored(self, visitor: str) -> list[dict[str, Any]]:
        """What stands on the topic of a visitor, in order."""
        values = [message.value() or b"" for message in self.stage.records(CLICKSTREAM, PARTITIONS) if message.key() == visitor.encode()]
        return [json.loads(value) for value in values if decode_click(value)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("clicks")
    with stage(folder) as here:
        gateway = GatewayProcess(structs.replace(here.config, gateway_origins=f"{SHOP} http://localhost:1"), folder / "gateway")
        gateway.start()
        try:
            yield Shop(here, gateway.address)
        finally:
            gateway.stop()


def view(visitor: str, name: str = "page_view", **params: Any) -> dict[str, Any]:
    return {"name": name, "params": {**PAGE, "visitor_id": visitor, **params}}


def test_batch_of_a_beacon_stands_on_the_topic_sealed_in_order_as_cloudevents(shop: Shop) -> None:
    events = [view("v-order", page_title=f"p{n}") for n in range(5)] + [view("v-order", "add_to_cart", items=[ITEM], member=CARD, size=40)]
    said = shop.send({"events": [{**event, "id": f"e-{n}"} for n, event in enumerate(events)]})
    assert (said.status, said.body) == (202, {"accepted": 6, "refused": []})
    assert said.headers["access-control-allow-origin"] == SHOP
    stored = shop.stored("v-order")
    assert [event["id"] for event in stored] == [f"e-{n}" for n in range(6)]
    assert {(event["source"], event["specversion"]) for event in stored} == {("web/shop.example.org", "1.0")}
    assert [event["type"] for event in stored] == ["web.page_view"] * 5 + ["web.add_to_cart"]
    last = stored[-1]["data"]
    assert (last["items"], last["size"], last["member"]["scheme"]) == ([ITEM], 40, "card")
    assert last["member"]["value"].startswith("blake2b:")
    assert CARD["value"] not in json.dumps(stored)


def test_fields_of_the_batch_are_those_of_events_that_say_nothing_else(shop: Shop) -> None:
    bare = {"name": "page_view", "params": {"page_location": "/x", "page_title": None, "session_id": None}}
    body = {"visitor_id": "v-shared", "session_id": "s-9", "member": CARD, "events": [bare, view("v-shared", session_id="s-1")]}
    assert shop.send(body, {}).body == {"accepted": 2, "refused": []}
    first, second = shop.stored("v-shared")
    assert (first["data"]["session_id"], second["data"]["session_id"], first["source"]) == ("s-9", "s-1", "web")
    assert first["data"]["member"] == second["data"]["member"]
    assert "page_title" not in first["data"]


def test_times_are_put_right_by_the_callers_clock_and_never_in_the_future(shop: Shop) -> None:
    wrong, before = datetime(2031, 5, 1, tzinfo=UTC), datetime.now(UTC)
    times = [wrong - timedelta(seconds=90), wrong + timedelta(days=1)]
    events = [view("v-time") | {"time": time.isoformat()} for time in times]
    assert shop.send({"sent_at": wrong.isoformat(), "events": [*events, view("v-time")]}).body["accepted"] == 3
    assert shop.send({"events": [events[0]]}).body["accepted"] == 1
    after = datetime.now(UTC)
    late, *now = [datetime.fromisoformat(event["time"]) for event in shop.stored("v-time")]
    assert before <= late + timedelta(seconds=90) <= after
    assert all(before <= time <= after for time in now)


def test_malformed_events_are_refused_one_by_one_with_path_and_reason(shop: Shop) -> None:
    events = [
        view("v-bad"), view("v-bad", "scroll"), 5, view("v-bad", items=[ITEM, {**ITEM, "price": -1}]), {"name": "page_view"},
        view("v-bad") | {"time": "today"}, view("v-bad") | {"time": "0001-01-01T00:00:00Z"}, view("v-bad", user_data={"email": "a@b.c"}),
        view("v-bad") | {"id": ""}, view("v-bad", padding="x" * 70_000), view("v-bad", "view_item"),
    ]  # fmt: skip
    said = shop.send({"events": events})
    assert (said.status, said.body["accepted"], len(shop.stored("v-bad"))) == (202, 1, 1)
    assert [(problem["status"], problem["path"]) for problem in said.body["refused"]] == [
        (422, "$.events[1].name"), (422, "$.events[2]"), (422, "$.events[3].params.items[1].price"), (422, "$.events[4].params"),
        (422, "$.events[5].time"), (422, "$.events[6].time"), (422, "$.events[7].params.user_data"), (422, "$.events[8].id"),
        (413, "$.events[9]"), (422, "$.events[10].params"),
    ]  # fmt: skip
    assert all(problem["detail"] for problem in said.body["refused"])
    assert "page_view, view_item" in said.body["refused"][0]["detail"]


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        (b"", 400, "$"),
        (b"{", 400, "$"),
        (b"\xff", 400, "$"),
        ({}, 422, "$"),
        ({"events": []}, 422, "$.events"),
        ({"events": [view("v")] * 101}, 422, "$.events"),
        ({"events": [view("v")], "visitor_id": ""}, 422, "$.visitor_id"),
        ({"events": [view("v")], "member": {"scheme": "face", "value": "x"}}, 422, "$.member.scheme"),
        ({"events": [view("v")], "sent_at": "0001-01-01T00:00:00Z"}, 422, "$.sent_at"),
        (b'{"events": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}", 400, "$"),
        (b'{"events": "' + b"x" * CLICKS_BYTES_MAX + b'"}', 413, None),
    ],
)
def test_what_is_no_batch_is_a_problem_that_its_page_may_read(shop: Shop, body: Any, status: int, path: str | None) -> None:
    said = shop.send(body)
    assert (said.status, said.body.get("path"), said.headers["content-type"]) == (status, path, PROBLEM_JSON), said.body
    assert (said.headers["access-control-allow-origin"], said.headers["vary"]) == (SHOP, "Origin")


def test_only_pages_of_listed_origins_may_send(shop: Shop) -> None:
    for origin in ("https://other.example.org", "http://shop.example.org", "https://shop.example.org:8443", "null", "", "*"):
        said = shop.send({"events": [view("v-other")]}, {"Origin": origin})
        assert (said.status, said.body["code"], said.headers["vary"]) == (403, "forbidden", "Origin")
        assert "access-control-allow-origin" not in said.headers
    assert shop.stored("v-other") == []


def test_preflight_is_answered_for_listed_origins_only(shop: Shop) -> None:
    asks = {"Origin": SHOP, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    said = ask(shop.address, "OPTIONS", "/v1/events", None, asks)
    assert (said.status, said.body, said.headers["access-control-allow-origin"]) == (204, b"", SHOP)
    assert (said.headers["access-control-allow-methods"], said.headers["access-control-allow-headers"]) == (
        "POST", "Authorization, Content-Type, Last-Event-ID",
    )  # fmt: skip
    assert "access-control-allow-credentials" not in said.headers
    refused = ask(shop.address, "OPTIONS", "/v1/events", None, asks | {"Origin": "https://other.example.org"})
    assert (refused.status, "access-control-allow-origin" in refused.headers) == (403, False)
    assert ask(shop.address, "OPTIONS", "/v1/events").status == 405


def test_pages_may_ask_nothing_but_to_take_page_views(shop: Shop) -> None:
    enrol = {"data": {"member_id": "m-page"}}
    said = ask(shop.address, "POST", "/v1/members", enrol, TEXT)
    assert (said.status, said.body["code"], "access-control-allow-origin" in said.headers) == (403, "forbidden", False)
    assert ask(shop.address, "OPTIONS", "/v1/members", None, {**TEXT, "Access-Control-Request-Method": "POST"}).status == 403
    assert ask(shop.address, "GET", "/healthz", None, TEXT).status == 200


def test_clicks_are_counted(shop: Shop) -> None:
    shop.send({"events": [view("v-count"), 5]})
    text = ask(shop.address, "GET", "/metrics").body.decode()
    assert 'tillstream_gateway_clicks_total{outcome="accepted"}' in text
    assert 'tillstream_gateway_clicks_total{outcome="refused"}' in text


def test_origins_that_are_none_end_the_command(shop: Shop) -> None:
    for text in ("https://shop.example.org/", "*", "shop.example.org", "https://Shop.example.org", "https://shop.example.org:443"):
        config = structs.replace(shop.stage.config, gateway_origins=text)
        ran = CliRunner().invoke(main, ["gateway"], env=environment_of(config))
        assert (ran.exit_code, ran.output.count("\n")) == (2, 1), ran.output
        assert f"gateway_origins: {text!r} is no origin" in ran.output


def test_flood_ends_where_the_lane_is_full_and_room_comes_back() -> None:
    async def run() -> None:
        lane = Lane(KafkaEvents({"bootstrap.servers": "127.0.0.1:1"}), 100)
        record = Record(CLICKSTREAM, b"v", b"x" * 60)
        on_its_way = asyncio.create_task(lane.submit([record]))
        await asyncio.sleep(0)
        with pytest.raises(LaneFull):
            await lane.submit([record])
        with pytest.raises(KafkaAway):
            await on_its_way
        assert lane.bytes_left == 100

    asyncio.run(run())
