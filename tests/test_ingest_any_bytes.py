"""Whatever a file holds comes out as events or as rejects with reasons: never another exception, and no row is lost.

Hypothesis draws bytes, files of rows with faults, and how a file is cut; a fuzzer mutates whole files (slow, where atheris is installed).
"""

import csv
import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ingest_files import CSV, HEADER, counted, mapping, row
from tests.test_ingest_decoding import FIXED, JSON, XML, document, element, receipt
from tests.test_mappings_folder import SAMPLES as SAMPLES_OF_FOLDER
from tillstream.ingesting.run import file_outcomes
from tillstream.schemas.events import decode_from_outside
from tillstream.sources.ingest.decoding import Outcome
from tillstream.sources.ingest.mapping import Mapping
from tillstream.sources.ingest.mapping_file import parse_mapping

FOLDER = Path(__file__).parent.parent / "mappings"
FUZZ_S = 30

SAMPLE_FILES = {name: file for name, (file, _) in SAMPLES_OF_FOLDER.items()}

MAPPINGS = {
    "csv": mapping(CSV),
    "multiline": mapping(CSV.replace('delimiter = ";"', 'delimiter = ";"\nmultiline = true')),
    "cp1250": mapping(CSV.replace('delimiter = ";"', 'delimiter = ";"\nencoding = "cp1250"')),
    "utf-16": mapping(CSV.replace('delimiter = ";"', 'delimiter = ";"\nencoding = "utf-16"')),
    "big5": mapping(CSV.replace('delimiter = ";"', 'delimiter = ";"\nencoding = "big5"')),
    "fixed": mapping(FIXED),
    "json": mapping(JSON),
    "lines": mapping(JSON.replace('items = "receipts"', "lines = true").replace('"$.shop"', '"shop"')),
    "signed": mapping(JSON.replace('items = "receipts"', 'items = "receipts"\nsigned = "data"')),
    "xml": mapping(XML),
    **{path.stem: parse_mapping(path.read_text()).mapping for path in FOLDER.glob("*.toml")},
}


def checked(content: bytes, by: Mapping) -> list[Outcome]:
    """The outcomes of a file, after what must hold of any: each is of one kind, its events are lawful, its rejects say why."""
    found = [outcome for _, outcome in file_outcomes(io.BytesIO(content), "f", by)]
    for outcome in found:
        assert bool(outcome.events) + bool(outcome.rejects) + outcome.passed == 1
        for event in outcome.events:
            decode_from_outside(orjson.dumps(event))
        if outcome.rejects:
            assert len(outcome.rejects) == outcome.rows
        for reject in outcome.rejects:
            assert reject.message
            assert reject.row >= 1
            orjson.dumps(reject._asdict())
    counts = counted(found)
    assert counts["rows"] == counts["events"] + counts["rejected"] + counts["passed"]
    assert not any(reject.rest for outcome in found[:-1] for reject in outcome.rejects)
    return found


@pytest.mark.parametrize("name", sorted(MAPPINGS))
@given(st.binary(max_size=300))
@settings(max_examples=60)
def test_any_bytes_are_events_or_rejects(name: str, content: bytes) -> None:
    checked(content, MAPPINGS[name])


WORDS = ["", "S", "R", "SUM", "1", "2", "15,99", "1 599,90", "-3", "2026-03-07 17:42", '"', '""', ";", "\x00"]
CELL = st.one_of(st.text(max_size=8), st.sampled_from(WORDS))
GOOD = st.builds(
    row,
    st.sampled_from(["1", "2", "3"]),
    st.sampled_from(["15,99", "0", "1,5", "x", "1,234"]),
    kind=st.sampled_from(["S", "R", "SUM", "Z"]),
    sku=st.sampled_from(["milk", "", '"a;b"', '"open']),
)
LINE = st.one_of(GOOD, GOOD, st.lists(CELL, max_size=9).map(";".join), st.just(""))


def physical(text: str) -> int:
    """Lines as they are numbered: by any line break, the last without one counted too."""
    return len(io.StringIO(text, newline=None).readlines())


@given(st.lists(LINE, max_size=12), st.sampled_from(["\n", "\r\n", "\r"]))
@settings(max_examples=300)
def test_every_row_is_in_exactly_one_outcome(lines: list[str], end: str) -> None:
    text = end.join([HEADER, *lines])
    found = checked(text.encode("utf-8", "surrogatepass"), MAPPINGS["csv"])
    assert sum(outcome.rows for outcome in found) == physical(text)
    rejected = [reject.row for outcome in found for reject in outcome.rejects]
    assert len(set(rejected)) == len(rejected)


@given(st.lists(GOOD, max_size=12))
@settings(max_examples=200)
def test_what_is_taken_is_what_a_plain_reader_would_take(lines: list[str]) -> None:
    """A second reading, by the csv module over good rows only: a receipt is taken if all of its rows follow each other and are good."""
    lines = [line for line in lines if '"open' not in line]
    cells = list(csv.reader(lines, delimiter=";"))
    spans: list[list[list[str]]] = []
    for one in cells:
        if one[0] == "SUM":
            continue
        if spans and spans[-1][0][1] == one[1]:
            spans[-1].append(one)
        else:
            spans.append([one])
    wanted, seen = [], set[str]()
    for span in spans:
        good = all(one[6] not in {"x", "1,234"} and (one[4] or span[0][0] == "R") for one in span) and span[0][0] in {"S", "R"}
        if good and span[0][1] not in seen:
            wanted.append((span[0][0], span[0][1], len(span)))
        seen.add(span[0][1])
    found = checked("\n".join([HEADER, *lines]).encode(), MAPPINGS["csv"])
    events = [event for outcome in found for event in outcome.events]
    assert [(event["type"][8].upper(), event["data"]["receipt_id"][0], len(event["data"]["lines"])) for event in events] == wanted


KEYS = st.sampled_from(["no", "at", "lines", "sku", "price", "count"])
JSON_VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


@given(JSON_VALUE)
@settings(max_examples=200)
def test_any_json_is_events_or_rejects(value: Any) -> None:
    text = json.dumps({"shop": "s1", "receipts": value})
    found = checked(text.encode("utf-8", "surrogatepass"), MAPPINGS["json"])
    if isinstance(value, list):
        assert sum(outcome.rows for outcome in found) == len(value)


@given(st.binary(max_size=40), st.integers(0, 10_000), st.sampled_from(["csv", "xml", "json", *sorted(SAMPLE_FILES)]))
@settings(max_examples=300)
def test_damaged_file_is_events_or_rejects(damage: bytes, at: int, name: str) -> None:
    content = SAMPLES[name]
    place = at % (len(content) + 1)
    checked(content[:place] + damage + content[place + len(damage) :], MAPPINGS[name])


def sample(name: str) -> bytes:
    return (FOLDER / "samples" / SAMPLE_FILES[name]).read_bytes()


SAMPLES = {
    "csv": "\n".join([HEADER, row("1"), row("1"), row("2", sku='"a ""b"""')]).encode(),
    "xml": f"<d><shop>s1</shop>{element(1, '1')}{element(2, '2', '3')}</d>".encode(),
    "json": document(receipt(1, 1.5), receipt(2, "2", 3)).encode(),
    **{path.stem: sample(path.stem) for path in FOLDER.glob("*.toml")},
}


@pytest.mark.slow
def test_fuzzer_finds_no_exception(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("NOT FUZZED: atheris has no wheel for this Python; pip install atheris where it has")
    for name, content in SAMPLES.items():
        (tmp_path / name).write_bytes(bytes([sorted(MAPPINGS).index(name)]) + content)
    fuzz = [sys.executable, str(Path(__file__).with_name("fuzz_ingest.py")), f"-max_total_time={FUZZ_S}", "-max_len=4096", str(tmp_path)]
    ran = subprocess.run(fuzz, cwd=tmp_path, capture_output=True, text=True, timeout=FUZZ_S * 4, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    assert "Done" in ran.stderr
