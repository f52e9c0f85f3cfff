"""Carts as pages tell them: what is in them, since when, and what does not count."""

import json
from typing import Any

import pytest

from tillstream.models.features.carts import ARTICLES_MAX, Cart, carted, decode_cart, encode_cart
from tillstream.schemas.clickstream import ClickEvent, decode_click

MINUTE = 60_000


def click(kind: str, name: str, *items: dict[str, Any], **data: Any) -> ClickEvent:
    page = {"visitor_id": "v", "session_id": "s", "page_location": "/", "items": list(items), **data}
    event = {"specversion": "1.0", "type": f"web.{kind}", "id": name, "source": "shop", "time": "2026-03-17T12:00:00Z", "data": page}
    return decode_click(json.dumps(event).encode())


def item(name: str, quantity: float | None = None, category: str | None = "dairy/milk") -> dict[str, Any]:
    said = {"item_id": name, "item_category": category, "quantity": quantity}
    return {key: value for key, value in said.items() if value is not None}


def behind(*clicks: tuple[int, ClickEvent]) -> Cart | None:
    """The cart behind some page views, each with its minute; stored in between."""
    cart: Cart | None = None
    for minute, one in clicks:
        cart = carted(cart, one, minute * MINUTE)
        cart = None if cart is None else decode_cart(encode_cart(cart))
    return cart


def goods(*clicks: tuple[int, ClickEvent]) -> dict[str, tuple[str, float]]:
    cart = behind(*clicks)
    assert cart is not None
    return cart.goods


def test_cart_has_what_was_put_in_and_not_taken_out() -> None:
    two = (0, click("add_to_cart", "1", item("milk", 2), item("bread", category="bakery")))
    assert goods(two) == {"milk": ("dairy/milk", 2.0), "bread": ("bakery", 1.0)}
    assert goods(two, (1, click("remove_from_cart", "2", item("milk", 1)))) == {"bread": ("bakery", 1.0), "milk": ("dairy/milk", 1.0)}
    assert goods(two, (1, click("remove_from_cart", "2", item("milk")))) == {"bread": ("bakery", 1.0)}
    assert goods(two, (1, click("remove_from_cart", "2", item("milk", 5), item("bread", 1), item("tea", 1)))) == {}
    assert goods(two, (1, click("add_to_cart", "2", item("milk", category=None))))["milk"] == ("dairy/milk", 3.0)


def test_cart_is_empty_after_a_purchase_and_stays_so_when_an_earlier_event_comes_late() -> None:
    add, buy = click("add_to_cart", "1", item("milk")), click("purchase", "2", item("milk"))
    assert goods((0, add), (1, buy)) == {}
    assert goods((0, add), (1, buy), (0, click("add_to_cart", "late", item("milk")))) == {}
    assert list(goods((0, add), (1, buy), (2, click("add_to_cart", "3", item("tea"))))) == ["tea"]
    # A purchase that comes late takes out what was bought, and leaves what was put in since.
    assert list(goods((0, add), (5, click("add_to_cart", "3", item("tea"))), (1, buy))) == ["tea"]


def test_cart_event_that_comes_again_changes_nothing() -> None:
    add = click("add_to_cart", "1", item("milk"))
    assert behind((0, add), (3, add)) == behind((0, add))


@pytest.mark.parametrize(("kind", "counts"), [("begin_checkout", True), ("view_item", False), ("page_view", False), ("search", False)])
def test_cart_waits_from_its_latest_change_or_checkout(kind: str, counts: bool) -> None:
    cart = behind((0, click("add_to_cart", "1", item("milk"))), (7, click(kind, "2", item("milk"))))
    assert cart is not None
    assert (cart.at_ms, cart.event_id) == ((7 * MINUTE, "2") if counts else (0, "1"))


def test_cart_of_somebody_else_begins_empty() -> None:
    first, second = ({"scheme": "member", "value": name} for name in ("m1", "m2"))
    mine = (0, click("add_to_cart", "1", item("milk"), member=first))
    assert list(goods(mine, (1, click("add_to_cart", "2", item("tea"))))) == ["milk", "tea"]
    assert list(goods(mine, (1, click("add_to_cart", "2", item("tea"), member=second)))) == ["tea"]


def test_cart_of_a_page_that_never_ends_is_bounded() -> None:
    cart = behind(*((n, click("add_to_cart", str(n), item(f"{n}"), item(f"{n}b"))) for n in range(ARTICLES_MAX)))
    assert cart is not None
    assert len(cart.goods) == ARTICLES_MAX
    assert f"{ARTICLES_MAX - 1}b" in cart.goods
    assert len(encode_cart(cart)) < 4_000


def test_view_before_any_cart_makes_none() -> None:
    assert behind((0, click("view_item", "1", item("milk")))) is None
