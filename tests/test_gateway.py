"""A gateway in front of a real worker: what a till sends over HTTP is what it would be by Kafka, and the answer is what `simulate` says."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.gateway_harness import WAIT, Place, Said, ask, gateway
from tests.pipeline_harness import PROGRAM, Event, program
from tillstream.gateway.answers import Entry
from tillstream.installation import GatewayProcess
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.publishing import published
from tillstream.simulate import Simulation
from tillstream.streams.programs import publish

__all__ = ["gateway"]

DAY = "2026-11-20"
LINES = [
    {"line_no": 1, "sku": "1", "category": "dairy/cheese", "quantity_milli": 1250, "amount": 1599},
    {"line_no": 2, "sku": "2", "category": "bakery/bread", "quantity_milli": 2000, "amount": 940},
    {"line_no": 3, "sku": "3", "category": "tobacco/x", "quantity_milli": 1000, "amount": 2000},
]


def head(receipt_id: str) -> dict[str, Any]:
    moment = {"business_date": DAY, "issued_at": f"{DAY}T12:00:00+01:00", "currency": "PLN"}
    return {"receipt_id": receipt_id, "store_id": "PL-1", "register_id": "1", **moment}


def sale(receipt_id: str, card: str | None, **more: Any) -> dict[str, Any]:
    member = {"member": {"scheme": "card", "value": card}} if card else {}
    return {"type": "receipt.sale", "data": head(receipt_id) | member | {"lines": LINES} | more}


def came_back(receipt_id: str, original: str, amount: int) -> dict[str, Any]:
    line = {"line_no": 1, "original_line_no": 1, "quantity_milli": 0, "amount": amount}
    return {"type": "receipt.return", "data": head(receipt_id) | {"original_receipt_id": original, "lines": [line]}}


def void(receipt_id: str) -> dict[str, Any]:
    return {"type": "receipt.void", "source": "tills/PL-1", "data": {"receipt_id": receipt_id}}


def whole(body: dict[str, Any], place: int) -> Event:
    """The event that a body stands for."""
    return {"specversion": "1.0", "id": f"e-{place}", "source": "tills/PL-1", "time": f"{DAY}T11:0{place}:00Z", **body}


def simulated(*bodies: dict[str, Any]) -> tuple[list[list[dict[str, Any]]], dict[str, Any]]:
    """What `simulate` gives for some events: the entries of each, and the balances of the one account by unit."""
    found: dict[str, list[dict[str, Any]]] = {}
    simulation = Simulation(
        program(), lambda e: found.setdefault(e.event_id, []).append({name: getattr(e, name) for name in Entry.__struct_fields__})
    )
    simulation.run(json.dumps(whole(body, place)).encode() for place, body in enumerate(bodies))
    (account,) = simulation.result()["accounts"].values()
    return [found.get(f"e-{place}", []) for place in range(len(bodies))], account


def balances(said: Said) -> dict[str, int]:
    return {each["unit"]: each["balance"] for each in said.body["balances"]}


def as_simulated(account: dict[str, Any]) -> dict[str, int]:
    return {unit: there["balance"] for unit, there in account.items()}


def until_known(place: Place, path: str) -> Said:
    deadline = time.monotonic() + 20
    while (said := place.get(path)).status == 404:
        assert time.monotonic() < deadline, path
        time.sleep(0.05)
    return said


def test_sale_return_and_void_answer_what_simulate_gives(gateway: Place) -> None:
    bodies = [sale("s-1", "c-1"), sale("s-2", "c-1"), came_back("b-1", "s-1", 800), void("s-2")]
    for count, body in enumerate(bodies, 1):
        entries, account = simulated(*bodies[:count])
        said = gateway.post("/v1/receipts", body)
        assert (said.status, said.body["outcome"], said.body["problem"]) == (200, "accepted", None)
        assert said.body["entries"] == entries[-1]
        assert balances(said) == as_simulated(account)


def test_quote_is_what_the_sale_gives_then_and_changes_nothing(gateway: Place) -> None:
    gateway.post("/v1/receipts", sale("q-0", "c-2"))
    before = gateway.stage.state()
    basket = {name: value for name, value in sale("q-1", "c-2")["data"].items() if name != "receipt_id"}
    quoted = gateway.post("/v1/quote", basket)
    assert (quoted.status, gateway.stage.state()) == (200, before)
    said = gateway.post("/v1/receipts", sale("q-1", "c-2"))
    assert quoted.body["entries"] == said.body["entries"]
    assert quoted.body["earns"] == {"points": 41, "stamps": 2}
    assert quoted.body["payable"][0] == {"unit": "points", "least": 0, "most": 41, "step": 1, "step_amount": None}
    assert balances(quoted) == {"points": 41, "stamps": 2}
    assert balances(said) == {"points": 82, "stamps": 4}


def test_quote_without_a_member_says_what_one_would_not_get(gateway: Place) -> None:
    basket = {name: value for name, value in sale("x", None)["data"].items() if name != "receipt_id"}
    said = gateway.post("/v1/quote", basket)
    assert (said.status, said.body["entries"], said.body["payable"], said.body["balances"]) == (200, [], [], [])


def test_same_receipt_again_is_a_duplicate_with_the_known_result_and_other_data_a_conflict(gateway: Place) -> None:
    first = gateway.post("/v1/receipts", sale("d-1", "c-3"))
    again = gateway.post("/v1/receipts", sale("d-1", "c-3"))
    assert (again.status, again.body) == (200, first.body | {"outcome": "duplicate"})
    other = gateway.post("/v1/receipts", sale("d-1", "c-3", register_id="2"))
    assert (other.status, other.body["code"], other.body["path"]) == (409, "conflict", "$.data")
    assert other.headers["content-type"] == "application/problem+json"
    assert [letter.code for letter in gateway.stage.dead_letters()][-1] == "conflict"
    assert balances(gateway.post("/v1/receipts", sale("d-1", "c-3"))) == balances(first)


def test_return_before_its_sale_waits_and_is_taken_up(gateway: Place) -> None:
    early = gateway.post("/v1/receipts", came_back("w-b", "w-1", 800))
    assert (early.status, early.body["outcome"], early.headers["location"]) == (202, "waiting", early.body["status"])
    assert gateway.get(early.body["status"]).body["outcome"] == "waiting"
    gateway.post("/v1/receipts", sale("w-1", "c-4"))
    deadline = time.monotonic() + 20
    while (known := gateway.get(early.body["status"])).body["outcome"] != "accepted":
        assert time.monotonic() < deadline
    assert [(entry["kind"], entry["points"]) for entry in known.body["entries"]] == [("reversal", -8), ("reversal", -8)]


def test_who_does_not_wait_gets_a_status_address_that_tells_later(gateway: Place) -> None:
    said = ask(gateway.gateway.address, "POST", "/v1/receipts", sale("PL-1/1/x y", "c-5"), {"Prefer": "wait=0"})
    assert (said.status, said.body["outcome"]) == (202, "pending")
    assert said.headers["location"] == said.body["status"] == "/v1/receipts/PL-1%2F1%2Fx%20y?source=tills%2FPL-1"
    known = until_known(gateway, said.headers["location"])
    assert (known.status, known.body["outcome"], balances(known)) == (200, "accepted", {"points": 41, "stamps": 2})


def test_refusal_that_nobody_waited_for_is_told_at_its_address(gateway: Place) -> None:
    body = sale("euro", "c-5", currency="EUR")
    said = ask(gateway.gateway.address, "POST", "/v1/receipts", body, {"Prefer": "respond-async"})
    assert said.status == 202
    known = until_known(gateway, said.headers["location"])
    assert (known.body["outcome"], known.body["problem"]["code"]) == ("refused", "currency")
    waited = gateway.post("/v1/receipts", sale("euro-2", "c-5", currency="EUR"))
    assert (waited.status, waited.body["code"], waited.body["path"]) == (422, "currency", "$.data.currency")


def test_anonymous_receipt_earns_nothing_and_is_kept(gateway: Place) -> None:
    said = gateway.post("/v1/receipts", sale("nobody", None))
    assert (said.status, said.body["outcome"], said.body["entries"], said.body["balances"]) == (200, "accepted", [], [])


def test_batch_has_an_outcome_for_each_event(gateway: Place) -> None:
    wrong = sale("k-2", "c-6", lines=[LINES[0] | {"amount": -1}])
    events = [sale("k-1", "c-6"), wrong, sale("k-1", "c-6"), sale("k-1", "c-6", register_id="7"), sale("k-3", "c-6")]
    said = gateway.post("/v1/receipts/batch", {"events": events})
    outcomes = said.body["outcomes"]
    assert said.status == 200
    assert [each["outcome"] for each in outcomes] == ["accepted", "refused", "duplicate", "refused", "accepted"]
    assert [each["problem"] and each["problem"]["code"] for each in outcomes] == [None, "invalid", None, "conflict", None]
    assert outcomes[1]["problem"]["path"] == "$.events[1].data.lines[0].amount"
    assert outcomes[0]["entries"] == outcomes[2]["entries"] == simulated(sale("k-1", "c-6"))[0][0]


def test_identify_of_somebody_unknown_is_that_of_somebody_with_nothing(gateway: Place) -> None:
    unknown = gateway.post("/v1/identify", {"identity": {"scheme": "card", "value": "2900000000001"}})
    gateway.post("/v1/members", {"data": {"member_id": "poor", "identities": [{"scheme": "card", "value": "2900000000002"}]}})
    known = gateway.post("/v1/identify", {"identity": {"scheme": "card", "value": "2900000000002"}})
    assert (unknown.status, unknown.body["name"], known.body["name"]) == (200, "card …0001", "card …0002")
    assert unknown.body | {"name": ""} == known.body | {"name": ""}
    assert balances(unknown) == {"points": 0, "stamps": 0}


def test_member_has_what_its_card_earned_before_and_is_greeted_by_first_name(gateway: Place) -> None:
    card = {"scheme": "card", "value": "2900000000003"}
    gateway.post("/v1/receipts", sale("m-1", card["value"]))
    enrolment = {"data": {"member_id": "ada", "identities": [card], "attributes": {"first_name": "Ada"}}}
    enrolled = gateway.post("/v1/members", enrolment)
    assert (enrolled.status, enrolled.body["outcome"], balances(enrolled)) == (200, "accepted", {"points": 41, "stamps": 2})
    said = gateway.post("/v1/identify", {"identity": card})
    assert (said.body["name"], said.body["currency"], balances(said)) == ("Ada", "PLN", {"points": 41, "stamps": 2})
    phone = {"scheme": "phone", "value": "+48601234567"}
    assert gateway.post("/v1/members/ada/identities", {"data": {"identity": phone}}).body["outcome"] == "accepted"
    assert gateway.post("/v1/identify", {"identity": phone}).body == said.body
    assert gateway.post("/v1/members/ada/consents", {"data": {"consents": {"marketing": True}}}).status == 200
    assert gateway.post("/v1/members/ada/erase", {}).body["outcome"] == "accepted"
    assert gateway.post("/v1/identify", {"identity": phone}).body["name"] == "phone …4567"
    before = gateway.post("/v1/members", enrolment | {"time": "2026-01-01T00:00:00Z"})
    assert (before.status, before.body["code"], before.body["path"]) == (422, "erased", "$.time")


def test_idempotency_key_makes_one_event_of_many_for_ever(gateway: Place) -> None:
    enrolment = {"data": {"member_id": "key-1", "attributes": {"first_name": "Kay"}}}
    once = {**WAIT, "Idempotency-Key": "enrol-key-1"}
    assert gateway.post("/v1/members", enrolment, once).body["outcome"] == "accepted"
    assert gateway.post("/v1/members", enrolment, once).body["outcome"] == "duplicate"
    other = gateway.post("/v1/members", {"data": {"member_id": "key-1", "attributes": {"first_name": "Jay"}}}, once)
    assert (other.status, other.body["code"]) == (409, "conflict")
    review = {"type": "activity.review", "data": {"member": {"scheme": "member", "value": "key-1"}, "stars": 5}}
    said = [gateway.post("/v1/activities", review, {**WAIT, "Idempotency-Key": "review-1"}) for _ in range(2)]
    assert [each.body["outcome"] for each in said] == ["accepted", "duplicate"]


def test_merge_and_unmerge_move_what_a_member_has_and_a_cycle_is_refused(gateway: Place) -> None:
    for name in ("one", "two"):
        gateway.post("/v1/members", {"data": {"member_id": name, "identities": [{"scheme": "card", "value": f"card-of-{name}"}]}})
        gateway.post("/v1/receipts", sale(f"of-{name}", f"card-of-{name}"))
    assert gateway.post("/v1/members/two/merge", {"data": {"into": "one"}}).body["outcome"] == "accepted"
    who = {"identity": {"scheme": "card", "value": "card-of-two"}}
    assert balances(gateway.post("/v1/identify", who)) == {"points": 82, "stamps": 4}
    cycle = gateway.post("/v1/members/one/merge", {"data": {"into": "two"}})
    assert (cycle.status, cycle.body["code"], cycle.body["path"]) == (422, "cycle", "$.data.into")
    assert gateway.post("/v1/members/two/unmerge", {"data": {"into": "one"}}).body["outcome"] == "accepted"
    assert balances(gateway.post("/v1/identify", who)) == {"points": 41, "stamps": 2}


def test_points_are_held_released_spent_and_never_more_than_there_are(gateway: Place) -> None:
    member = {"scheme": "card", "value": "c-7"}
    gateway.post("/v1/receipts", sale("h-1", "c-7"))
    moment = {"time": f"{DAY}T13:00:00Z"}
    hold = {"data": {"hold_id": "h1", "member": member, "points": 30, "expires_at": f"{DAY}T20:00:00Z"}, **moment}
    held = gateway.post("/v1/holds", hold)
    assert (held.status, held.body["balances"][0]["balance"], held.body["balances"][0]["held"]) == (200, 11, 30)
    assert gateway.post("/v1/holds", hold).body["outcome"] == "duplicate"
    spend = {"data": {"redemption_id": "r1", "member": member, "points": 20, "reward": "mug"}, **moment}
    refused = gateway.post("/v1/redemptions", spend)
    assert (refused.status, refused.body["code"], refused.body["path"]) == (422, "insufficient", "$.data.points")
    released = gateway.post("/v1/holds/h1/release", {"data": {"member": member}, **moment})
    assert (released.body["balances"][0]["balance"], released.body["balances"][0]["held"]) == (41, 0)
    taken = gateway.post("/v1/redemptions", {**spend, "data": spend["data"] | {"redemption_id": "r2"}})
    assert [(entry["kind"], entry["points"]) for entry in taken.body["entries"]] == [("redemption", -20)]
    adjust = {"data": {"adjustment_id": "a1", "member": member, "points": 9, "reason": "spilt milk", "actor": "jo"}, **moment}
    assert gateway.post("/v1/adjustments", adjust).body["balances"][0]["balance"] == 30


def test_two_gateways_side_by_side_answer_their_own_and_know_of_each_other_s(gateway: Place) -> None:
    other = GatewayProcess(gateway.stage.config, gateway.stage.folder / "other")
    other.start()
    try:
        for place in range(5):
            first = gateway.post("/v1/receipts", sale(f"two-{place}", "c-8"))
            second = ask(other.address, "POST", "/v1/receipts", sale(f"two-{place}", "c-8"), WAIT)
            assert (first.body["outcome"], second.body) == ("accepted", first.body | {"outcome": "duplicate"})
    finally:
        other.stop()


def test_program_that_is_published_is_quoted_by_at_once(gateway: Place) -> None:
    text = PROGRAM.replace('currency = "PLN"', 'currency = "PLN"\neffective_from = 2027-01-01').replace("points = 1,", "points = 2,", 1)
    data = {name: value for name, value in sale("x", "c-9")["data"].items() if name != "receipt_id"}
    basket = data | {"business_date": "2027-01-02", "issued_at": "2027-01-02T12:00:00+01:00"}
    assert gateway.post("/v1/quote", basket).body["earns"]["points"] == 41
    publish(gateway.stage.kafka, [published(parse_program(text), text, datetime.now(UTC))])
    deadline = time.monotonic() + 20
    while gateway.post("/v1/quote", basket).body["earns"]["points"] == 41:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert gateway.post("/v1/quote", basket).body["earns"]["points"] == 50 + 31
    assert gateway.post("/v1/quote", data).body["earns"]["points"] == 41


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"])
def test_what_operators_and_readers_ask_for_is_there(gateway: Place, path: str) -> None:
    said = gateway.get(path)
    assert said.status == 200
    assert said.headers["server"] == "tillstream"
    assert len(said.headers["x-request-id"]) == 16
    assert gateway.get(path, **{"X-Request-Id": "till-7/1"}).headers["x-request-id"] == "till-7/1"
