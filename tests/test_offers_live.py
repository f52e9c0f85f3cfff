"""An offer from end to end: an enrolment, a page view by HTTP, the trigger, what the shop says of it, and the receipt that answers it."""

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from tests.gateway_harness import Place, place
from tests.pipeline_harness import SETTLED_S, until
from tests.test_decide import read
from tests.test_offer_metrics import told
from tests.test_program_offers import offer
from tillstream.embedded.process import HOST, free_port
from tillstream.installation import WorkerProcess
from tillstream.schemas.offers import DecidedEvent, OutcomeEvent, ReturnedEvent, TriggeredEvent, decode_outcome, decode_trigger
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.publishing import published
from tillstream.sinks.carts import due_key, receipts_key
from tillstream.sinks.offers import MARK, member_keys
from tillstream.sinks.registry import index_key
from tillstream.streams.programs import publish
from tillstream.streams.topics import CLICKSTREAM, OUTCOMES, TRIGGERS

pytestmark = pytest.mark.slow

METRICS = f"{HOST}:{free_port()}"

OFFERS = """
rules = []
[program]
id = "offers"
currency = "PLN"
time_zone = "Europe/Warsaw"
[units.points]
expires = { after_days = 20 }
""" + offer("budget = 10\ncap = { per_member = { max = 1, days = 1 } }") + offer(
    'channel = "till"', "next-time", trigger='trigger = { on = "receipt", first_purchase = true, category = ["dairy/**"] }'
) + offer("", "come-back", trigger='trigger = { on = "cart_abandoned", category = ["tea"], minutes = 1 }')


@pytest.fixture(scope="module")
def workers() -> list[WorkerProcess]:
    """Those that decide; a test may kill one and start another."""
    return []


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, workers: list[WorkerProcess]) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("offers")
    with place(folder) as there:
        publish(there.stage.kafka, [published(parse_program(OFFERS), OFFERS, datetime.now(UTC))])
        workers.append(WorkerProcess(replace(there.stage.config, offers_metrics=METRICS), "offers", folder / "offers"))
        workers[0].start()
        try:
            yield there
        finally:
            for worker in workers:
                worker.stop()


def known(shop: Place, member: str) -> bool:
    with shop.stage.client() as client:
        return bool(client.hexists(index_key("members", member), member))


def outcomes(shop: Place) -> list[OutcomeEvent]:
    return [decode_outcome(raw) for raw in read(shop.stage.kafka, OUTCOMES, [0])]


def triggers(shop: Place) -> list[TriggeredEvent]:
    return [decode_trigger(raw) for raw in read(shop.stage.kafka, TRIGGERS, [0] * shop.stage.config.partitions)]


def test_page_view_becomes_a_trigger_and_what_follows_stands_on_outcomes(shop: Place) -> None:
    consents = {"marketing": True, "personalised": True}
    enrolment = {"data": {"member_id": "m1", "consents": consents}, "time": (datetime.now(UTC) - timedelta(days=1)).isoformat()}
    assert shop.post("/v1/members", enrolment).status in {200, 202}
    until(lambda: known(shop, "m1"), "the member", SETTLED_S)
    item = {"item_id": "1", "item_category": "dairy/cheese/blue"}
    params: dict[str, Any] = {"page_location": "/cheese", "items": [item]}
    body = {"visitor_id": "v1", "session_id": "s1", "member": {"scheme": "member", "value": "m1"}}
    assert shop.post("/v1/events", body | {"events": [{"name": "view_item", "params": params}] * 3}).body["accepted"] == 3
    until(lambda: bool(triggers(shop)), "a trigger", SETTLED_S)
    (trigger,) = triggers(shop)
    assert (trigger.data.member_id, trigger.data.visitor_id, trigger.data.channel) == ("m1", "v1", "page")

    name = trigger.data.decision_id
    for word in ("shown", "clicked", "redeemed"):
        assert shop.post(f"/v1/offers/{name}/{word}", None).status == 202
    assert shop.post("/v1/offers/nothing/shown", None).status == 404
    now = datetime.now(UTC)
    lines = [{"line_no": 1, "sku": "1", "category": "dairy/cheese/blue", "quantity_milli": 1000, "amount": 700}]
    data = {
        "receipt_id": "r1", "store_id": "1", "register_id": "1", "business_date": now.date().isoformat(), "issued_at": now.isoformat(),
        "currency": "PLN", "member": {"scheme": "member", "value": "m1"}, "lines": lines,
    }  # fmt: skip
    assert shop.post("/v1/receipts", {"type": "receipt.sale", "data": data}).status in {200, 202}
    until(lambda: len(outcomes(shop)) >= 6, "the receipt's answer", SETTLED_S)
    kinds = [str(type(event).__struct_config__.tag) for event in outcomes(shop)]
    assert kinds[:4] == ["offer.decided", "offer.shown", "offer.clicked", "offer.redeemed"]
    assert sorted(kinds[4:]) == ["offer.bought", "offer.decided"]
    assert [event.data.decision_id for event in outcomes(shop)].count(name) == 5

    line = {"line_no": 1, "original_line_no": 1, "quantity_milli": 1000, "amount": 700}
    back = data | {"receipt_id": "back", "original_receipt_id": "r1", "lines": [line]}
    assert shop.post("/v1/receipts", {"type": "receipt.return", "data": back}).status in {200, 202}
    until(lambda: any(isinstance(event, ReturnedEvent) for event in outcomes(shop)), "the return to be told", SETTLED_S)
    (returned,) = [event.data for event in outcomes(shop) if isinstance(event, ReturnedEvent)]
    assert (returned.decision_id, returned.receipt_id, returned.amount) == (name, "r1", 700)

    counted = told(METRICS)
    assert counted["tillstream_offer_decisions_total", "cheese", "treated"] >= 1
    assert counted["tillstream_offer_answers_total", "cheese", "returned"] == 1

    who = {"identity": {"scheme": "member", "value": "m1"}}
    (open_offer,) = shop.post("/v1/identify", who).body["offers"]
    assert (open_offer["offer_id"], open_offer["worth"], open_offer["category"]) == ("next-time", {"points": 200}, ["dairy/cheese/**"])
    assert shop.post(f"/v1/offers/{open_offer['decision_id']}/redeemed", None).status == 202
    assert shop.post("/v1/identify", who).body["offers"] == []

    made, redeemed, _ = member_keys("m1")
    with shop.stage.client() as client:
        assert client.hlen(made) == 2
        assert client.hexists(redeemed, name)
    assert shop.post("/v1/members/m1/erase", {}).status in {200, 202}

    def gone() -> bool:
        with shop.stage.client() as client:
            return client.hkeys(made) == [MARK.encode()]

    until(gone, "what was offered to be forgotten", SETTLED_S)


def cart(member: str, at: datetime) -> bytes:
    """Tea in a member's cart."""
    page = {"visitor_id": f"v-{member}", "session_id": "s", "page_location": "/tea", "member": {"scheme": "member", "value": member},
            "items": [{"item_id": "t", "item_category": "tea"}]}  # fmt: skip
    event = {"specversion": "1.0", "type": "web.add_to_cart", "id": f"cart of {member}", "source": "shop", "time": at.isoformat()}
    return msgspec.json.encode(event | {"data": page})


def waiting(shop: Place) -> int:
    """Carts that are to be looked at."""
    with shop.stage.client() as client:
        return sum(client.zcard(due_key(partition)) for partition in range(shop.stage.config.partitions))


def test_cart_that_was_left_becomes_a_trigger_of_the_next_worker_and_one_whose_member_bought_at_the_till_does_not(
    shop: Place, workers: list[WorkerProcess], tmp_path: Path
) -> None:
    for member in ("m3", "m4"):
        data = {"member_id": member, "consents": {"marketing": True, "personalised": True}}
        enrolment = {"data": data, "time": (datetime.now(UTC) - timedelta(days=1)).isoformat()}
        assert shop.post("/v1/members", enrolment).status in {200, 202}
        until(lambda member=member: known(shop, member), "the member", SETTLED_S)  # type: ignore[misc]
    at = datetime.now(UTC)
    lines = [{"line_no": 1, "sku": "n", "category": "tools", "quantity_milli": 1000, "amount": 100}]
    sale = {
        "receipt_id": "r4", "store_id": "1", "register_id": "1", "business_date": at.date().isoformat(), "issued_at": at.isoformat(),
        "currency": "PLN", "member": {"scheme": "member", "value": "m4"}, "lines": lines,
    }  # fmt: skip
    assert shop.post("/v1/receipts", {"type": "receipt.sale", "data": sale}).status in {200, 202}

    def bought() -> bool:
        with shop.stage.client() as client:
            return bool(client.exists(receipts_key("m4")))

    until(bought, "the receipt to be noted", SETTLED_S)
    for member in ("m4", "m3"):
        shop.stage.send([cart(member, datetime.now(UTC) - timedelta(seconds=45))], CLICKSTREAM, f"v-{member}")
    until(lambda: waiting(shop) == 2, "both carts to be noted", SETTLED_S)
    os.kill(workers[0].pid, signal.SIGKILL)
    workers.append(WorkerProcess(shop.stage.config, "offers", tmp_path / "next"))
    workers[1].start()
    left = {"m3": "cart of m3/abandoned/1"}

    def come_back() -> dict[str, str]:
        found = [one.data for one in outcomes(shop) if isinstance(one, DecidedEvent)]
        return {data.member_id: data.cause.event_id for data in found if data.offer_id == "come-back"}

    until(lambda: bool(come_back()), "the cart to be left", SETTLED_S)
    assert come_back() == left
    assert [one.data.visitor_id for one in triggers(shop) if one.data.offer_id == "come-back"] == ["v-m3"]
    until(lambda: waiting(shop) == 0, "both carts to be done with", SETTLED_S)
    assert come_back() == left
