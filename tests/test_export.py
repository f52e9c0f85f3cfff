"""The exported JSON Schemas accept what the engine accepts and writes, and refuse what it refuses."""

import json
import tomllib
from datetime import date, time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.strategies import envelope, post, program_text, random_history, random_program
from tillstream.kernels.posting import Poster
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.events import Malformed
from tillstream.schemas.export import json_schemas
from tillstream.schemas.ledger import Refused, encode_record
from tillstream.schemas.program_file import parse_program

FOLDER = Path(__file__).parent / "examples"
SCHEMAS = json_schemas()
LEDGER = ("ledger.posted", "ledger.waiting", "ledger.refused")


def faults(value: Any, name: str) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(SCHEMAS[name]).iter_errors(value)]


def as_json(value: Any) -> Any:
    """TOML's dates as JSON has them."""
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [as_json(item) for item in value]
    return value.isoformat() if isinstance(value, date | time) else value


def test_every_event_record_and_the_program_have_a_schema() -> None:
    assert set(SCHEMAS) == {
        "receipt.sale", "receipt.return", "receipt.void", "member.enrolled", "member.identity_added", "member.merged", "member.unmerged",
        "member.household_changed", "member.consent_changed", "member.segments_changed", "member.erased", "points.hold", "points.release",
        "points.redeem", "points.adjust", "points.transfer", "points.transferred", "account.takeover", "activity", "clock.tick", *LEDGER,
        "deadletter.refused",
        "program.published", "key.created", "key.revoked", "audit.action", "program", "web.page_view", "web.view_item",
        "web.view_item_list", "web.search", "web.add_to_cart", "web.remove_from_cart", "web.begin_checkout", "web.purchase",
        "voucher.issued", "voucher.reserved", "voucher.redeemed", "voucher.released", "voucher.revoked",
        "models.status",
    }  # fmt: skip
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)
        assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.events.jsonl")), ids=lambda path: path.stem)
def test_example_events_are_valid(path: Path) -> None:
    for line in path.read_text().splitlines():
        event = json.loads(line)
        assert faults(event, event["type"]) == []


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.program.toml")), ids=lambda path: path.stem)
def test_example_programs_are_valid(path: Path) -> None:
    assert faults(as_json(tomllib.loads(path.read_text())), "program") == []


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_and_all_records_that_they_give_are_valid(seed: int) -> None:
    random = Random(seed)
    text = program_text(random_program(random))
    assert faults(as_json(tomllib.loads(text)), "program") == []
    history = random_history(random, ticks=True)
    random.shuffle(history)
    for outcome in post(Poster(parse_program(text)), history, Snapshot()):
        for raw in outcome.records:
            record = json.loads(raw)
            assert faults(record, record["type"]) == []
    refused = json.loads(encode_record(Refused("a", "b", Malformed("over_returned", "$", "").code, 1, "2026-03-01T00:00:00+00:00")))
    assert faults(refused, "ledger.refused") == []


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("receipt.void", envelope("receipt.void", "e", "s", {}), "$.data: 'receipt_id' is a required property"),
        ("receipt.void", envelope("receipt.sale", "e", "s", {"receipt_id": "r"}), "$.type: 'receipt.sale' is not one of ['receipt.void']"),
        ("receipt.void", envelope("receipt.void", "", "s", {"receipt_id": "r"}), "$.id: '' should be non-empty"),
        ("clock.tick", envelope("clock.tick", "e", "s", {"date": 5}), "$.data.date: 5 is not of type 'string'"),
        ("program", {"program": {}, "units": {}, "rules": [], "rulez": []}, "$.program: 'id' is a required property"),
    ],
)
def test_what_the_engine_refuses_the_schema_refuses(name: str, value: Any, fault: str) -> None:
    assert fault in faults(value, name)
