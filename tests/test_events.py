"""Malformed events of every kind: `decode` says which field is wrong, and nothing but `Malformed` ever comes out of it."""

import json
from copy import deepcopy
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.strategies import Event, envelope, random_returns, random_sale, random_void, raw_of
from tillstream.schemas.events import EVENT_BYTES_MAX, Malformed, SaleEvent, TickEvent, decode
from tillstream.schemas.receipts import LINES_MAX


def valid() -> dict[str, Event]:
    """One lawful event of each kind."""
    sale = random_sale(Random(11), lines_max=5)
    lines = [{"line_no": n, "sku": "x", "quantity_milli": 1000, "amount": 100} for n in range(3)]
    tenders = [{"type": "card", "amount": 200}, {"type": "points", "amount": 100, "points": 50}]
    sale["data"] |= {"lines": lines, "tenders": tenders, "member": {"scheme": "card", "value": "29"}}
    enrolled = {"member_id": "m1", "identities": [{"scheme": "card", "value": "29"}], "birth_date": "1990-02-28", "attributes": {"a": [1]}}
    return {
        "sale": sale,
        "return": random_returns(Random(3), sale, 1)[0],
        "void": random_void(sale),
        "enrolled": envelope("member.enrolled", "e1", "crm", enrolled),
        "identity_added": envelope("member.identity_added", "e2", "crm", {"member_id": "m1", "identity": {"scheme": "app", "value": "a"}}),
        "tick": envelope("clock.tick", "e3", "clock", {"date": "2026-03-01"}),
    }


def refusal(raw: bytes) -> tuple[str, str]:
    with pytest.raises(Malformed) as caught:
        decode(raw)
    assert caught.value.message
    return caught.value.code, caught.value.path


def changed(kind: str, path: str, value: Any) -> bytes:
    """A lawful event with one thing put at `path` (`data.lines.0.amount`); a missing value deletes."""
    event = deepcopy(valid()[kind])
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place: Any = event
    for step in way:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return raw_of(event)


@pytest.mark.parametrize("kind", list(valid()))
def test_lawful_event_is_taken(kind: str) -> None:
    assert decode(raw_of(valid()[kind])).id == valid()[kind]["id"]


@pytest.mark.parametrize(
    ("kind", "path", "value", "where"),
    [
        ("sale", "specversion", "0.3", "$.specversion"),
        ("sale", "specversion", None, "$"),
        ("sale", "type", "receipt.unknown", "$.type"),
        ("sale", "type", "x - at `$.y`", "$.type"),
        ("sale", "type", 5, "$.type"),
        ("sale", "type", None, "$"),
        ("sale", "id", "", "$.id"),
        ("sale", "id", "x" * 257, "$.id"),
        ("sale", "id", 7, "$.id"),
        ("sale", "source", None, "$"),
        ("sale", "time", "2026-03-01T12:00:00", "$.time"),
        ("sale", "time", "yesterday", "$.time"),
        ("sale", "time", "9999-12-31T23:59:59-23:00", "$.time"),
        ("void", "time", "0001-01-01T00:00:00+23:00", "$.time"),
        ("sale", "data", [], "$.data"),
        ("sale", "data", None, "$"),
        ("sale", "data.receipt_id", None, "$.data"),
        ("sale", "data.store_id", ["s"], "$.data.store_id"),
        ("sale", "data.business_date", "2026-02-30", "$.data.business_date"),
        ("sale", "data.business_date", "9999-01-01", "$.data.business_date"),
        ("sale", "data.issued_at", "2026-03-01T12:00:00", "$.data.issued_at"),
        ("sale", "data.issued_at", "9999-03-01T12:00:00Z", "$.data.issued_at"),
        ("sale", "data.issued_at", "1969-12-31T12:00:00Z", "$.data.issued_at"),
        ("sale", "data.issued_at", "2026-03-01T23:59:60Z", "$.data.issued_at"),
        ("sale", "data.currency", "pln", "$.data.currency"),
        ("sale", "data.currency", "PLN\n", "$.data.currency"),
        ("sale", "data.member.scheme", "iris", "$.data.member.scheme"),
        ("sale", "data.member.value", "", "$.data.member.value"),
        ("sale", "data.lines", "none", "$.data.lines"),
        ("sale", "data.lines.1", 5, "$.data.lines[1]"),
        ("sale", "data.lines.1.amount", -1, "$.data.lines[1].amount"),
        ("sale", "data.lines.1.amount", 1.5, "$.data.lines[1].amount"),
        ("sale", "data.lines.1.amount", "100", "$.data.lines[1].amount"),
        ("sale", "data.lines.1.amount", True, "$.data.lines[1].amount"),
        ("sale", "data.lines.1.amount", 2**63, "$.data.lines[1].amount"),
        ("sale", "data.lines.1.amount", 2**64, "$.data.lines[1].amount"),
        ("sale", "data.lines.1.amount", 10**400, "$.data.lines[1].amount"),
        ("sale", "data.lines.1.amount", None, "$.data.lines[1]"),
        ("sale", "data.lines.1.quantity_milli", -1, "$.data.lines[1].quantity_milli"),
        ("sale", "data.lines.1.discount", -1, "$.data.lines[1].discount"),
        ("sale", "data.lines.1.kind", "thing", "$.data.lines[1].kind"),
        ("sale", "data.lines.1.line_no", 2, "$.data.lines[2].line_no"),
        ("sale", "data.lines.1.line_no", -1, "$.data.lines[1].line_no"),
        ("sale", "data.tenders.1.amount", 301, "$.data.tenders"),
        ("sale", "data.tenders.1.points", -1, "$.data.tenders[1].points"),
        ("sale", "data.tenders", [{"type": "card", "amount": 1}] * 101, "$.data.tenders"),
        ("return", "data.original_receipt_id", None, "$.data"),
        ("return", "data.lines.0.original_line_no", None, "$.data.lines[0]"),
        ("return", "data.lines.0.amount", -5, "$.data.lines[0].amount"),
        ("void", "data.receipt_id", None, "$.data"),
        ("enrolled", "data.kind", "bank", "$.data.kind"),
        ("enrolled", "data.identities.0.value", 29, "$.data.identities[0].value"),
        ("enrolled", "data.birth_date", "1990-02-29", "$.data.birth_date"),
        ("identity_added", "data.identity.scheme", "iris", "$.data.identity.scheme"),
        ("tick", "data.date", "9999-12-31", "$.data.date"),
        ("tick", "data.date", "1969-12-31", "$.data.date"),
        ("tick", "data.date", 5, "$.data.date"),
    ],
)
def test_wrong_field_is_named_by_its_path(kind: str, path: str, value: Any, where: str) -> None:
    assert refusal(changed(kind, path, value)) == ("invalid", where)


def test_as_many_lines_as_allowed_are_taken_and_one_more_is_not() -> None:
    lines = [{"line_no": n, "sku": "5901234123457", "quantity_milli": 1000, "amount": 100} for n in range(10_001)]
    taken = decode(changed("sale", "data.lines", lines[:LINES_MAX]))
    assert isinstance(taken, SaleEvent)
    assert len(taken.data.lines) == LINES_MAX
    assert refusal(changed("sale", "data.lines", lines[: LINES_MAX + 1])) == ("invalid", "$.data.lines")
    assert refusal(changed("sale", "data.lines", lines)) == ("invalid", "$.data.lines")


SALE = raw_of(valid()["sale"])
ENROLLED = raw_of(valid()["enrolled"])


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "not_json"),
        (b"\0" * 20, "not_json"),
        (b"receipt", "not_json"),
        (b"\xef\xbb\xbf" + SALE, "not_json"),
        (SALE[:-1], "not_json"),
        (SALE + b"{}", "not_json"),
        (SALE.replace(b'"x"', b'"\xff\xfe"'), "not_json"),
        (SALE.replace(b'"x"', b'"\\ud800"'), "not_json"),
        (SALE.replace(b'"x"', b'"\\udc00\\ud800"'), "not_json"),
        (SALE.replace(b'"x"', b'"a\nb"'), "not_json"),
        (SALE.replace(b"100", b"NaN"), "not_json"),
        (SALE.replace(b"100", b"Infinity"), "not_json"),
        (SALE.replace(b"100", b"0100"), "not_json"),
        (ENROLLED.replace(b"[1]", b"NaN"), "not_json"),
        (ENROLLED.replace(b"[1]", b"1e999"), "invalid"),
        (ENROLLED.replace(b"[1]", b"1" * 5000), "invalid"),
        (ENROLLED.replace(b"[1]", b"[" * 100_000 + b"]" * 100_000), "not_json"),
        (SALE[:-1] + b', "more": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not_json"),
        (b"[" * 100_000, "invalid"),
        (b"[]", "invalid"),
        (b"null", "invalid"),
        (b'"receipt.sale"', "invalid"),
        (SALE + b" " * EVENT_BYTES_MAX, "too_large"),
    ],
)  # fmt: skip
def test_bytes_that_are_no_event_are_refused(raw: bytes, code: str) -> None:
    found = refusal(raw)
    assert found[0] == code
    assert found[1].startswith("$")


@pytest.mark.parametrize("more", [b', "more": "\xff"}', b', "\xff": 1}', b', "more": {"a": ["\xc3\x28"]}}'])
def test_unknown_fields_must_be_utf_8_as_well(more: bytes) -> None:
    """Regression: the decoder passed over them, and the bytes went into the ledger, which then was no JSON."""
    assert refusal(SALE[:-1] + more) == ("not_json", "$")


def test_unknown_fields_and_null_characters_are_taken() -> None:
    event = valid()["sale"]
    event["traceparent"] = {"a": [1, None, "ż"]}
    event["data"]["cashier"] = "\0"
    event["data"]["lines"][0]["vat"] = 23.5
    event["id"] = "a\0b"
    assert decode(raw_of(event)).id == "a\0b"


def test_duplicate_keys_are_read_one_way_only() -> None:
    """JSON leaves it open; here the last one counts, and the type cannot be said twice differently."""
    twice = decode(SALE.replace(b'"amount": 100', b'"amount": -1, "amount": 7', 1).replace(b'"amount": -1', b'"amount": 5'))
    assert isinstance(twice, SaleEvent)
    assert twice.data.lines[0].amount == 7
    assert refusal(SALE[:-1] + b', "type": "receipt.void"}') == ("invalid", "$.type")


def test_a_tick_is_taken_at_the_ends_of_time() -> None:
    for day in ("1970-01-01", "2199-12-31"):
        assert isinstance(decode(changed("tick", "data.date", day)), TickEvent)


def survives(raw: bytes) -> None:
    problem = None
    try:
        decode(raw)
    except Malformed as caught:
        problem = caught
    if problem is not None:
        assert problem.code in {"invalid", "not_json", "too_large", "overflow"}
        assert problem.path.startswith("$")


@given(st.binary(max_size=300))
def test_any_bytes_give_an_event_or_malformed(raw: bytes) -> None:
    survives(raw)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=5) | st.sampled_from([2**63, "2026-03-01"]),
    lambda inside: st.one_of(st.lists(inside, max_size=3), st.dictionaries(st.text(max_size=4), inside, max_size=3)),
    max_leaves=6,
)


@given(st.sampled_from(list(valid())), st.randoms(use_true_random=False), JSON)
@settings(max_examples=300)
def test_any_mutated_event_gives_an_event_or_malformed(kind: str, random: Random, value: Any) -> None:
    event: Any = deepcopy(valid()[kind])
    place = event
    while True:
        steps = list(place) if isinstance(place, dict) else list(range(len(place)))
        step = random.choice(steps)
        if not isinstance(place[step], dict | list) or not place[step] or random.random() < 0.3:
            break
        place = place[step]
    place[step] = value
    survives(json.dumps(event).encode())


@given(st.sampled_from([raw_of(event) for event in valid().values()]), st.integers(0, 10_000), st.binary(max_size=4), st.integers(0, 4))
@settings(max_examples=300)
@example(SALE, 0, b"", len(SALE))
def test_any_spliced_bytes_give_an_event_or_malformed(raw: bytes, at: int, put: bytes, cut: int) -> None:
    at %= len(raw)
    survives(raw[:at] + put + raw[at + cut :])
