"""The mappings of the folder mappings/: no mistake, and each makes of its sample exactly the events that were written down by hand."""

from pathlib import Path
from typing import Any

import pytest

from tillstream.sources.ingest.decoding import Outcome, outcomes
from tillstream.sources.ingest.mapping_file import parse_mapping

FOLDER = Path(__file__).parent.parent / "mappings"
FILES = sorted(FOLDER.glob("*.toml"))

Event = dict[str, Any]


def line(number: int, sku: str, milli: int, amount: int, **more: Any) -> Event:
    """A line of a sale; it costs `amount` after its discount."""
    return {"line_no": number, "sku": sku, "quantity_milli": milli, "amount": amount, **more}


def event(source: str, kind: str, moment: str, receipt_id: str, **data: Any) -> Event:
    """A sale or return in PLN."""
    envelope = {"specversion": "1.0", "id": f"{kind}:{receipt_id}", "source": source, "type": f"receipt.{kind}", "time": moment}
    known = {"receipt_id": receipt_id, "business_date": moment[:10], "issued_at": moment, "currency": "PLN"}
    return {**envelope, "data": {**known, **data}}


def card(value: str, scheme: str = "card") -> Event:
    return {"scheme": scheme, "value": value}


DISTRIBUTOR = "distributor/opol"
DEPOT = {"store_id": "OP1", "register_id": "invoices"}
WHOLESALER = "wholesaler/W01"
BRANCH = {"store_id": "W01", "register_id": "04"}
SHOP = {"store_id": "PL-0007", "register_id": "3"}

EXPECTED = {
    "distributor-csv": [
        event(
            DISTRIBUTOR,
            "sale",
            "2026-03-07T08:15:00+01:00",
            "OP1/FV/114/26",
            **DEPOT,
            member=card("5250000001", "barcode"),
            lines=[
                line(1, "5901234123457", 12_000, 159_990, category="dairy/cheese", brand='Mleczarnia "Łąka"', discount=10_000, kind="item"),
                line(2, "5900000000014", 40_500, 12_150, category="dairy", brand="Łąka", discount=0, kind="item"),
                line(3, "5900000000021", 12_000, 2_400, category="packaging", discount=0, kind="deposit"),
            ],
        ),
        event(
            DISTRIBUTOR,
            "sale",
            "2026-03-07T09:02:00+01:00",
            "OP1/PAR/7/26",
            **DEPOT,
            lines=[line(1, "5900000000038", 1_000, 3_499, category="grocery/coffee", brand="Żar", discount=0, kind="item")],
        ),
        event(
            DISTRIBUTOR,
            "return",
            "2026-03-09T11:40:00+01:00",
            "OP1/KOR/3/26",
            **DEPOT,
            original_receipt_id="OP1/FV/114/26",
            lines=[{"line_no": 1, "original_line_no": 2, "quantity_milli": 10_500, "amount": 3_150}],
        ),
    ],
    "wholesaler-fixed": [
        event(
            WHOLESALER,
            "sale",
            "2026-03-07T10:15:00+01:00",
            "W01-04-20260307-000812",
            **BRANCH,
            member=card("2901234567890"),
            lines=[
                line(1, "5900000000014", 2_000, 798, category="dairy", discount=100),
                line(2, "5900000000052", 1_250, 625, category="bakery", discount=0),
                line(3, "5900000000069", 1_000, 19_999, category="other", discount=0),
            ],
            tenders=[{"type": "cash", "amount": 1_422}, {"type": "card", "amount": 20_000}],
        ),
        event(
            WHOLESALER,
            "sale",
            "2026-10-25T02:30:00+02:00",  # The night on which 02:30 is there twice: the mapping says the earlier one.
            "W01-04-20261025-000813",
            **BRANCH,
            lines=[line(1, "5900000000014", 350, 140, category="dairy", discount=0)],
            tenders=[{"type": "cash", "amount": 140}],
        ),
        event(
            WHOLESALER,
            "return",
            "2026-10-25T12:00:00+01:00",
            "W01-04-20261025-000814",
            **BRANCH,
            member=card("2901234567890"),
            original_receipt_id="W01-04-20260307-000812",
            lines=[{"line_no": 1, "original_line_no": 1, "quantity_milli": 1_000, "amount": 399}],
            tenders=[{"type": "cash", "amount": 399}],
        ),
    ],
    "e-paragon-json": [
        event(
            "e-paragon/ZZZ2601000001",
            "sale",
            "2026-03-08T00:42:10+01:00",  # 23:42 UTC is the next day in Warsaw.
            "ZZZ2601000001/1/391",
            store_id="5250000001",
            register_id="2",
            member=card("2901234567890"),
            lines=[
                line(1, "SER GOUDA KG", 456, 1_623, category="vat/c", discount=200),
                line(2, "MLEKO 3,2% 1L", 2_000, 798, category="vat/c", discount=0),
                line(3, "KAWA 500G", 1_000, 3_499, category="vat/a", discount=0),
            ],
            tenders=[{"type": "cash", "amount": 920}, {"type": "card", "amount": 5_000}],
        )
    ],
    "poslog-xml": [
        event(
            "poslog/PL-0007",
            "sale",
            "2026-03-07T17:42:10+01:00",
            "PL-0007/3/2026-03-07/1201",
            **SHOP,
            member=card("2901234567890"),
            lines=[
                line(1, "5901234123457", 1_250, 1_599, category="dairy/cheese", discount=200, kind="item"),
                line(3, "5900000000021", 1_000, 50, discount=0, kind="deposit"),
            ],
            tenders=[{"type": "card", "amount": 1_024}],
        ),
        event(
            "poslog/PL-0007",
            "return",
            "2026-03-07T17:42:10+01:00",
            "PL-0007/3/2026-03-07/1201/R",
            **SHOP,
            member=card("2901234567890"),
            original_receipt_id="PL-0004/1/2026-03-01/88",
            original_source="poslog/PL-0004",
            lines=[{"line_no": 1, "original_line_no": 2, "quantity_milli": 1_000, "amount": 625}],
        ),
        {
            "specversion": "1.0",
            "id": "void:PL-0007/3/2026-03-07/1200",
            "source": "poslog/PL-0007",
            "type": "receipt.void",
            "time": "2026-03-07T18:05:00+01:00",
            "data": {"receipt_id": "PL-0007/3/2026-03-07/1200"},
        },
    ],
}

SAMPLES = {
    "distributor-csv": ("distributor.csv", 7),
    "wholesaler-fixed": ("wholesaler.dat", 13),
    "e-paragon-json": ("e-paragon.json", 1),
    "poslog-xml": ("poslog.xml", 4),
}
"""Of each mapping its file, and how many rows or records that has."""


def decoded(name: str) -> list[Outcome]:
    mapping = parse_mapping((FOLDER / f"{name}.toml").read_text()).mapping
    with (FOLDER / "samples" / SAMPLES[name][0]).open("rb") as file:
        return list(outcomes(file, mapping))


def test_every_mapping_has_a_sample_and_an_expectation() -> None:
    assert [path.stem for path in FILES] == sorted(EXPECTED) == sorted(SAMPLES)
    assert sorted(path.name for path in (FOLDER / "samples").iterdir()) == sorted(file for file, _ in SAMPLES.values())


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_sample_becomes_the_events_written_by_hand(name: str) -> None:
    found = decoded(name)
    assert [made for outcome in found for made in outcome.events] == EXPECTED[name]
    assert [reject for outcome in found for reject in outcome.rejects] == []
    assert sum(outcome.rows for outcome in found) == SAMPLES[name][1]


def test_e_paragon_sums_are_those_of_the_document() -> None:
    (sale,) = EXPECTED["e-paragon-json"]
    assert sum(item["amount"] for item in sale["data"]["lines"]) == sum(tender["amount"] for tender in sale["data"]["tenders"]) == 5_920
