"""Page views and the like: what is taken, which field is named where one is not, and that no identity in them stays readable."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tillstream.kernels.identities import Seal
from tillstream.kernels.sealing import seal_event
from tillstream.schemas.clickstream import CLICK_BYTES_MAX, CLICK_NAMES, WEB, Purchase, decode_click
from tillstream.schemas.events import Malformed
from tillstream.schemas.export import json_schemas

ITEM = {"item_id": "5901234123457", "item_category": "dairy/cheese", "price": 15.99, "quantity": 2}
PAGE = {"visitor_id": "v-1", "session_id": "s-1", "page_location": "https://shop.example.org/cheese"}
SCHEMAS = json_schemas()


def click(name: str = "view_item", **data: Any) -> dict[str, Any]:
    envelope = {"specversion": "1.0", "id": "c-1", "source": "web/shop.example.org", "time": "2026-03-07T17:42:10.123Z"}
    return {**envelope, "type": WEB + name, "data": {**PAGE, "items": [ITEM], **data}}


def raw_of(event: dict[str, Any]) -> bytes:
    return json.dumps(event).encode()


@pytest.mark.parametrize("name", CLICK_NAMES)
def test_every_name_of_the_design_is_taken_and_fits_its_schema(name: str) -> None:
    event = click(name)
    decoded = decode_click(raw_of(event))
    assert (decoded.data.visitor_id, decoded.data.items[0].price, decoded.data.items[0].quantity) == ("v-1", 15.99, 2.0)
    assert not list(Draft202012Validator(SCHEMAS[WEB + name]).iter_errors(event))


def test_names_are_those_of_the_design() -> None:
    assert CLICK_NAMES == (
        "page_view", "view_item", "view_item_list", "search", "add_to_cart", "remove_from_cart", "begin_checkout", "purchase",
    )  # fmt: skip


def test_page_view_and_search_need_no_items_and_fields_of_ga4_are_typed() -> None:
    bare = {**click("page_view"), "data": PAGE}
    assert decode_click(raw_of(bare)).data.items == []
    bought = decode_click(raw_of(click("purchase", transaction_id="t-1", value=31, currency="PLN"))).data
    assert isinstance(bought, Purchase)
    assert (bought.transaction_id, bought.value) == ("t-1", 31.0)


@pytest.mark.parametrize(
    ("event", "path"),
    [
        (click("page_scroll"), "$.type"),
        (click() | {"type": "receipt.sale"}, "$.type"),
        (click() | {"time": "2026-03-07T17:42:10"}, "$.time"),
        (click() | {"time": "2226-03-07T17:42:10Z"}, "$.time"),
        (click() | {"data": {**PAGE}}, "$.data"),
        (click(visitor_id=""), "$.data.visitor_id"),
        (click(session_id=5), "$.data.session_id"),
        (click(page_location="x" * 5_000), "$.data.page_location"),
        (click(member={"scheme": "face", "value": "x"}), "$.data.member.scheme"),
        (click(items=[ITEM, {**ITEM, "price": -1}]), "$.data.items[1].price"),
        (click(items=[ITEM, {**ITEM, "price": "15.99"}]), "$.data.items[1].price"),
        (click(items=[{**ITEM, "quantity": [1]}]), "$.data.items[0].quantity"),
        (click(items=[{"price": 5}]), "$.data.items[0]"),
        (click(items=[ITEM] * 201), "$.data.items"),
        (click("search", search_term=5), "$.data.search_term"),
        (click(padding="x" * CLICK_BYTES_MAX), "$"),
    ],
)
def test_malformed_click_names_its_field(event: dict[str, Any], path: str) -> None:
    with pytest.raises(Malformed) as caught:
        decode_click(raw_of(event))
    assert (caught.value.path, bool(caught.value.message)) == (path, True)


@given(st.binary(max_size=300) | st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_anything_else_is_malformed_and_nothing_worse(anything: Any) -> None:
    with pytest.raises(Malformed):
        decode_click(anything if isinstance(anything, bytes) else json.dumps(anything).encode())


@pytest.mark.parametrize(("scheme", "value"), [("card", "2901234567890"), ("phone", "+48601234567"), ("email", "jan@example.org")])
def test_identity_is_sealed_and_all_else_stays_as_it_came(scheme: str, value: str) -> None:
    seal, event = Seal(b"0123456789abcdef"), click(member={"scheme": scheme, "value": value}, colour="blue")
    raw = raw_of(event)
    sealed, stored = seal_event(decode_click(raw), raw, seal)
    assert value.encode() not in stored
    hidden = {"scheme": scheme, "value": sealed.data.member.value if sealed.data.member else ""}
    assert hidden["value"].startswith("blake2b:")
    assert json.loads(stored) == event | {"data": event["data"] | {"member": hidden}}
    assert decode_click(stored) == sealed
