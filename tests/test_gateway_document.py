"""The OpenAPI document is made of the table of routes and of the types, and says what the gateway does."""

import re
from typing import Any, get_args

import msgspec
import pytest
from jsonschema import Draft202012Validator

from tillstream.gateway.answers import Balance, Entry, Lot, Outcome
from tillstream.gateway.openapi import document, is_type
from tillstream.gateway.page import page
from tillstream.gateway.permits import RouteScope
from tillstream.gateway.problems import Problem, problem_of
from tillstream.gateway.table import ROUTES
from tillstream.schemas.events import Malformed

DOCUMENT = document(ROUTES, keys=False)


def test_every_route_is_in_the_document_with_what_it_takes_and_answers() -> None:
    assert {(route.path, route.method.lower()) for route in ROUTES} == {(p, m) for p, ms in DOCUMENT["paths"].items() for m in ms}
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    for route in ROUTES:
        page_of = DOCUMENT["paths"][route.path][route.method.lower()]
        assert page_of["operationId"] == route.name
        assert page_of["summary"].endswith(".")
        assert set(page_of["responses"]) == {*map(str, route.answers), "default"}
        assert {p["name"] for p in page_of["parameters"] if p["in"] == "path"} == set(re.findall(r"\{(\w+)\}", route.path))
        assert ("requestBody" in page_of) == (route.takes is not None)
        assert route.takes is None or route.method == "POST"


def test_every_route_but_an_operator_s_needs_a_scope() -> None:
    assert {route.path for route in ROUTES if route.scope is None} == {"/healthz", "/readyz", "/metrics", "/v1/snippet.js"}
    assert {route.scope for route in ROUTES} == {None, *get_args(RouteScope)}


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_schemas_are_valid_and_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    assert {name.removeprefix("#/components/schemas/") for name in references(DOCUMENT)} <= set(schemas)
    for route in ROUTES:
        for kind in (route.takes, *route.answers.values()):
            assert not is_type(kind) or {part.__name__ for part in get_args(kind) or (kind,)} <= set(schemas)


def faults(value: Any, name: str) -> list[str]:
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    found = Draft202012Validator(schema).iter_errors(msgspec.json.decode(msgspec.json.encode(value)))
    return [f"{error.json_path}: {error.message}" for error in found]


@pytest.mark.parametrize(
    "value",
    [
        problem_of(Malformed("currency", "$.data.currency", "EUR")),
        Outcome("pending", "/v1/outcomes/x"),
        Outcome(
            "accepted", "/x", [Entry(1, "accrual", "points", 5, "base", None)], "gold",
            [Balance("points", -5, 0, None, 0, 0, [Lot(None, 5), Lot("2026-01-01", 1)])],
        ),
    ],
)  # fmt: skip
def test_answers_are_as_the_document_says(value: Any) -> None:
    assert faults(value, type(value).__name__) == []


def test_body_of_a_receipt_is_told_apart_by_its_type() -> None:
    schema = DOCUMENT["paths"]["/v1/receipts"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert sorted(schema["discriminator"]["mapping"]) == ["receipt.return", "receipt.sale", "receipt.void"]
    assert faults({"type": "receipt.void", "data": {"receipt_id": "x"}}, "VoidBody") == []
    assert faults({"type": "receipt.void", "data": {}}, "VoidBody") == ["$.data: 'receipt_id' is a required property"]
    assert faults(Problem("t", "t", 400, "d", "c"), "Problem") == []


def test_page_tells_of_every_endpoint_and_type_and_loads_nothing_from_elsewhere() -> None:
    text = page(DOCUMENT)
    for route in ROUTES:
        assert f"<code>{route.method} {route.path}</code>" in text
    anchors = set(re.findall(r"id='([^']+)'", text))
    assert set(re.findall(r"href='#([^']+)'", text)) <= anchors
    assert not re.findall(r"<script|src=|https?://", text)


def test_document_of_a_gateway_with_keys_says_where_one_is_needed() -> None:
    described = document(ROUTES, keys=True)
    assert described["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for route in ROUTES:
        assert ("security" in described["paths"][route.path][route.method.lower()]) == (route.scope is not None)
    assert "security" not in DOCUMENT["paths"]["/v1/quote"]["post"]
