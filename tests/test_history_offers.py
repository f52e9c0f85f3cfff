"""Page views and offers in ClickHouse: each once, however often and in whatever blocks they were written, on chDB and over HTTP."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from tests.test_clickstream import click, raw_of
from tests.test_history import QUERIES, client, dsn, engine, rows  # noqa: F401
from tests.test_offer_events import DECIDED, TRIGGERED, raw
from tillstream.sinks.clickhouse import connect, migrate
from tillstream.sinks.history_offers import OfferHistory

AT = datetime(2026, 3, 7, 17, 42, 10, tzinfo=UTC)


def page(name: str, number: int, visitor: str, *categories: str, **data: Any) -> bytes:
    items = [{"item_id": f"s{place}", "item_category": category, "price": 1.5} for place, category in enumerate(categories)]
    return raw_of(click(name, visitor_id=visitor, items=items, **data) | {"id": f"c-{number}", "time": AT.isoformat()})


def decided(number: int, group: str, **more: Any) -> bytes:
    return raw("offer.decided", DECIDED | {"decision_id": f"d{number}", "group": group, "consents": {"marketing": True}} | more)


def outcome(number: int, kind: str, **more: Any) -> bytes:
    event = json.loads(raw(f"offer.{kind}", {"decision_id": f"d{number}", **more}))
    return json.dumps(event | {"id": f"{kind} {number}"}).encode()


VIEWS = [
    page("view_item", 1, "v1", "dairy/cheese", "fuel"),
    page("view_item", 2, "v1", "dairy/cheese"),
    page("view_item", 3, "v2", "dairy/cheese"),
    page("add_to_cart", 4, "v2", "dairy/cheese", value=3.0, currency="PLN"),
    page("purchase", 5, "v2", "dairy/cheese", transaction_id="r-1", member={"scheme": "card", "value": "blake2b:" + "0" * 32}),
]

OUTCOMES = [
    decided(1, "treated"),
    decided(2, "treated", judgement=None),
    decided(3, "control"),
    outcome(1, "shown"),
    outcome(1, "clicked"),
    outcome(1, "bought", receipt_id="r-1", amount=1_599),
    outcome(3, "bought", receipt_id="r-2", amount=900),
    outcome(3, "returned", receipt_id="r-2", amount=900),
]

TRIGGERS = [
    raw("offer.triggered", TRIGGERED | {"visitor_id": "v1", "sku": ["590*"]}),
    raw("offer.triggered", TRIGGERED | {"decision_id": "d2"}),
]


def numbered(records: list[bytes], first: int = 10) -> list[tuple[int, bytes]]:
    return list(enumerate(records, first))


@pytest.fixture(scope="module")
def written(engine: str) -> Iterator[Client]:  # noqa: F811
    """A database with everything in it twice: once in one block, once more one record a block, under later offsets."""
    there = connect(f"{engine}offers_written")
    migrate(there)
    history = OfferHistory(there)
    history.write_clicks(3, [*numbered(VIEWS), (90, b"{"), (91, raw("offer.shown", {"decision_id": "d1"}))])
    history.write_outcomes(0, numbered(OUTCOMES))
    history.write_triggers(2, numbered(TRIGGERS))
    assert history.rejects == 0
    for offset, record in numbered(VIEWS, 100):
        history.write_clicks(3, [(offset, record)])
    for offset, record in numbered(OUTCOMES, 100):
        history.write_outcomes(0, [(offset, record)])
    history.write_triggers(2, numbered(TRIGGERS, 100))
    yield there
    there.close()


def test_page_views_are_there_once_with_all_that_was_said(written: Client) -> None:
    assert rows(written, "SELECT count(), uniqExact(event_id) FROM page_views") == [(5, 5)]
    query = """
        SELECT
            name, toUnixTimestamp(occurred_at), visitor_id, session_id, member_scheme, member, transaction_id, skus, categories, prices,
            source
        FROM page_views WHERE event_id = 'c-5'
    """
    seen = ("purchase", int(AT.timestamp()), "v2", "s-1", "card", "0" * 32, "r-1", ["s0"], ["dairy/cheese"], [1.5], "web/shop.example.org")
    assert rows(written, query) == [seen]
    assert rows(written, "SELECT value, currency, member FROM page_views WHERE name = 'add_to_cart'") == [(3.0, "PLN", None)]


def test_repeated_block_is_dropped_on_arrival(client: Client) -> None:  # noqa: F811
    history = OfferHistory(client)
    for _ in range(3):
        history.write_clicks(3, numbered(VIEWS))
        history.write_outcomes(0, numbered(OUTCOMES))
        history.write_triggers(2, numbered(TRIGGERS))
    tables = {"page_views_log": 5, "offer_decisions_log": 3, "offer_outcomes_log": 5, "offer_triggers_log": 2}
    assert {table: rows(client, f"SELECT count() FROM {table}")[0][0] for table in tables} == tables


def test_decisions_are_there_once_with_what_they_were_made_by_and_what_channels_were_told(written: Client) -> None:
    query = """
        SELECT decision_id, decision_group, model, score, features, consents, triggered, points, visitor_id
        FROM offer_decisions ORDER BY decision_id
    """
    assert rows(written, query) == [
        ("d1", "treated", "cheese", 0.12, {"views_10min": 2.0}, {"marketing": True}, True, 50, "v1"),
        ("d2", "treated", None, None, {}, {"marketing": True}, True, 50, None),
        ("d3", "control", "cheese", 0.12, {"views_10min": 2.0}, {"marketing": True}, False, None, None),
    ]


def test_outcomes_are_there_once(written: Client) -> None:
    query = "SELECT decision_id, kind, receipt_id, amount FROM offer_outcomes ORDER BY 1, 2"
    assert rows(written, query) == [
        ("d1", "bought", "r-1", 1_599), ("d1", "clicked", None, None), ("d1", "shown", None, None), ("d3", "bought", "r-2", 900),
        ("d3", "returned", "r-2", 900),
    ]  # fmt: skip


def test_malformed_outcomes_and_triggers_are_rejects_and_malformed_page_views_are_nothing(client: Client) -> None:  # noqa: F811
    history = OfferHistory(client)
    assert history.write_clicks(3, [(1, b"{")]) == 0
    assert history.write_outcomes(0, [(1, b"{"), (2, OUTCOMES[0])]) == 2
    assert history.write_triggers(1, [(7, VIEWS[0])]) == 1
    assert rows(client, "SELECT topic, kafka_offset FROM history_rejects ORDER BY topic") == [("outcomes", 1), ("triggers", 7)]


def test_new_columns_explain_themselves(client: Client) -> None:  # noqa: F811
    for name in ("page_views", "offer_decisions", "offer_outcomes"):
        assert all(row[4] for row in rows(client, f"DESCRIBE {name}"))


def test_analyst_what_is_looked_at_and_not_bought(written: Client) -> None:
    assert rows(written, QUERIES["What is looked at and not bought"]) == [
        (AT.date(), "dairy/cheese", 2, 1, 1), (AT.date(), "fuel", 1, 0, 0),
    ]  # fmt: skip


def test_analyst_how_offers_do(written: Client) -> None:
    assert rows(written, QUERIES["How offers do"]) == [
        ("cheese", "control", 1, 0, 0, 0, 0.0), ("cheese", "treated", 2, 1, 0, 1, 50.0),
    ]  # fmt: skip
