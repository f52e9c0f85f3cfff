"""Events about offers: what is taken, what is refused and where, and that a decision's id is one for ever."""

import json
from typing import Any

import pytest

from tillstream.schemas.events import Malformed
from tillstream.schemas.offers import BoughtEvent, DecidedEvent, decision_id, decode_outcome, decode_trigger

ENVELOPE = {"specversion": "1.0", "id": "1", "source": "tillstream/offers", "time": "2026-03-07T17:42:10+01:00"}

DECIDED: dict[str, Any] = {
    "decision_id": "d1", "offer_id": "cheese", "program_id": "fresh-club", "program_version": "v", "member_id": "m1", "account_id": "m1",
    "channel": "page", "group": "treated", "answer_by": "2026-03-14T17:42:10+01:00",
    "cause": {"source": "shop", "event_id": "e-1", "type": "web.view_item", "why": "looked at dairy/cheese twice in 10 minutes"},
    "judgement": {"model": "cheese", "version": "17", "score": 0.12, "features": {"views_10min": 2.0}},
}  # fmt: skip

TRIGGERED: dict[str, Any] = {
    "decision_id": "d1", "offer_id": "cheese", "title": "Cheese", "member_id": "m1", "account_id": "m1", "channel": "page",
    "worth": {"points": 50}, "why": "looked at cheese", "expires_at": "2026-03-08T00:00:00+01:00",
}  # fmt: skip


def raw(type_: str, data: dict[str, Any]) -> bytes:
    return json.dumps(ENVELOPE | {"type": type_, "data": data}).encode()


def test_decision_carries_what_it_was_made_by() -> None:
    event = decode_outcome(raw("offer.decided", DECIDED))
    assert isinstance(event, DecidedEvent)
    assert event.data.judgement is not None
    assert event.data.judgement.features == {"views_10min": 2.0}
    assert event.data.judgement.exploration == 1.0


def test_outcome_of_a_purchase_says_which_receipt_and_how_much() -> None:
    event = decode_outcome(raw("offer.bought", {"decision_id": "d1", "receipt_id": "r1", "amount": 1599}))
    assert isinstance(event, BoughtEvent)
    assert (event.data.receipt_id, event.data.amount) == ("r1", 1599)


def test_trigger_says_what_to_propose_and_why() -> None:
    trigger = decode_trigger(raw("offer.triggered", TRIGGERED)).data
    assert (trigger.worth.points, trigger.worth.unit, trigger.why) == (50, "points", "looked at cheese")


@pytest.mark.parametrize(
    ("bytes_", "code", "path"),
    [
        (raw("offer.decided", DECIDED | {"judgement": DECIDED["judgement"] | {"score": 1.5}}), "invalid", "$.data.judgement.score"),
        (raw("offer.decided", DECIDED | {"answer_by": "2026-03-14T17:42:10"}), "invalid", "$.data.answer_by"),
        (raw("offer.seen", {"decision_id": "d1"}), "invalid", "$.type"),
        (raw("offer.shown", {"decision_id": ""}), "invalid", "$.data.decision_id"),
        (b"{", "not_json", "$"),
        (b"\xff{}", "not_json", "$"),
    ],
)
def test_malformed_outcome_is_refused_with_its_path(bytes_: bytes, code: str, path: str) -> None:
    with pytest.raises(Malformed) as refused:
        decode_outcome(bytes_)
    assert (refused.value.code, refused.value.path) == (code, path)


def test_decision_has_another_id_where_anything_that_led_to_it_differs() -> None:
    parts = ("cheese", "m1", "shop", "e-1")
    others = {decision_id(*(part + "x" if place == index else part for place, part in enumerate(parts))) for index in range(4)}
    assert len(others | {decision_id(*parts)}) == 5
    assert decision_id("a", "b", "c", "d") != decision_id("a\0b", "c", "d", "")
