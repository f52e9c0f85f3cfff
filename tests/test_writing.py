"""The record of a plain sale, written straight from the kernel's columns, is to the byte what the schema's encoder writes."""

from pathlib import Path

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tillstream.kernels.keys import digest_of
from tillstream.kernels.posting import Poster, is_plain
from tillstream.kernels.routed import Routed
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.events import SaleEvent, decode
from tillstream.schemas.ledger import decode_record, encode_record
from tillstream.schemas.program_file import parse_program
from tillstream.sources.generated import receipts

PROGRAMS = [path.read_text() for path in sorted((Path(__file__).parent / "examples").glob("*.program.toml"))]
TWO_UNITS = """
[program]
id = "two"
currency = "PLN"
time_zone = "Europe/Warsaw"
[units.points]
expires = { after_months = 12, at = "month_end" }
[units."stamps \\"é"]
[[rules]]
id = "ba\\"s\\\\e"
award = { points = 1, per_amount = 100 }
[[rules]]
id = "stämp"
unit = "stamps \\"é"
award = { points = 1, per_line = 1 }
"""


def both_ways(program: str, sales: list[SaleEvent]) -> tuple[list[bytes], list[bytes]]:
    """The records of the plain sales, written and encoded."""
    written, encoded = [], []
    poster, snapshot = Poster(parse_program(program)), Snapshot()
    for offset, event in enumerate(sales):
        routed = Routed(event, "m\u00e9", offset, b"")
        fast, slow = (next(poster.earn([event])) for _ in range(2))
        if is_plain(event.data, "m\u00e9", poster.terms_of(fast.day), None):
            written.append(poster.plain_sale(routed, event, fast, Snapshot(), digest_of(event)))
            encoded.append(encode_record(poster.sale(routed, event, slow, snapshot, digest_of(event))))
    return written, encoded


@pytest.mark.parametrize("program", [*PROGRAMS, TWO_UNITS])
def test_written_records_are_the_encoders_bytes(program: str) -> None:
    sales = [event for event in map(decode, map(orjson.dumps, receipts(200, 5))) if isinstance(event, SaleEvent)]
    written, encoded = both_ways(program, sales)
    assert len(written) > 100
    assert written == encoded


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_written_records_escape_any_text_as_the_encoder_does(source: str, event_id: str, receipt_id: str) -> None:
    event = next(event for event in map(decode, map(orjson.dumps, receipts(1, 1))) if isinstance(event, SaleEvent))
    try:
        event = msgspec.structs.replace(event, source=source, id=event_id, data=msgspec.structs.replace(event.data, receipt_id=receipt_id))
        written, encoded = both_ways(TWO_UNITS, [event])
    except UnicodeEncodeError:
        return  # A lone surrogate, which decoding refuses.
    assert written == encoded
    assert all(decode_record(record).receipt_id == receipt_id for record in written)  # type: ignore[union-attr]
