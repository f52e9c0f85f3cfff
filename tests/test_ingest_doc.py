"""docs/ingest.md: its example runs and says what the page says, its parts are mappings, and every key is told."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from tests.test_docs import ROOT, Block, blocks
from tillstream.config import ENVIRONMENT_PREFIX
from tillstream.sources.ingest.mapping import Csv, Files, Fixed, Formats, Group, Head, Json, Mapping, Schedule, Xml
from tillstream.sources.ingest.mapping_file import parse_mapping
from tillstream.sources.ingest.mapping_rules import (
    ActivityRule,
    EnrolledRule,
    Lines,
    ReturnLines,
    ReturnRule,
    SaleRule,
    Tenders,
    Text,
    VoidRule,
    Who,
)

PAGE = "docs/ingest.md"
KINDS = (
    *(Mapping, Head, Csv, Fixed, Json, Xml, Formats, Group, Files, Schedule),
    *(SaleRule, ReturnRule, VoidRule, EnrolledRule, ActivityRule, Lines, ReturnLines, Tenders, Text, Who),
)
KEYS = {field.encode_name for kind in KINDS for field in msgspec.structs.fields(kind)}
EXAMPLES = blocks(PAGE, "toml")
WHOLE = EXAMPLES[0].text
TABLE = re.compile(r"^(?=\[)", re.MULTILINE)


def names(text: str) -> set[str]:
    """The tables of a mapping, by their first name."""
    return {re.split(r"[.\]]", table.lstrip("["))[0] for table in TABLE.split(text) if table.startswith("[")}


def completed(block: Block) -> str:
    """A mapping of an example: as it is, or with the tables of the first one that it does not have itself."""
    if not block.text.startswith("#"):
        return block.text
    given = names(block.text)
    formats, events = {"csv", "fixed", "json", "xml"}, {"sale", "return", "void", "enrolled", "activity"}
    left_out = given | (formats if given & formats else set()) | (events if given & events else set())
    left_out |= {"group", "skip"} if block.text.startswith("# tree") or "enrolled" in given or "sale" in given else set()
    kept = [table for table in TABLE.split(WHOLE) if not names(table) & left_out]
    return block.text + "".join(kept)


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.text.splitlines()[1])
def test_ingest_page_example_is_a_mapping(block: Block) -> None:
    parse_mapping(completed(block))


def test_ingest_page_first_example_says_what_is_shown(tmp_path: Path) -> None:
    (tmp_path / "corner.toml").write_text(WHOLE)
    (tmp_path / "sales.csv").write_text(blocks(PAGE, "csv")[0].text)
    settings = {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    environment = settings | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONIOENCODING": "utf-8"}
    check, dry = blocks(PAGE, "sh")[0].text.splitlines()[:2]
    shown = blocks(PAGE, "text")[0].text
    for command, status in ((check, 0), (dry, 1)):
        ran = subprocess.run(command, cwd=tmp_path, env=environment, shell=True, capture_output=True, text=True, check=False)
        assert ran.returncode == status, ran.stderr
    assert ran.stderr == shown
    decoder, wanted = msgspec.json.Decoder(), re.split(r"\n(?=\{)", blocks(PAGE, "json")[0].text.strip())
    assert [orjson.loads(line) for line in ran.stdout.splitlines()] == [decoder.decode(event) for event in wanted]


def used_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {name for item in value.values() for name in used_in(item)}
    return {name for item in value for name in used_in(item)} if isinstance(value, list) else set()


def test_ingest_page_examples_use_every_key() -> None:
    files = [path.read_text() for path in (ROOT / "mappings").glob("*.toml")]
    used = {name for text in [*map(completed, EXAMPLES), *files] for name in used_in(tomllib.loads(text))}
    assert KEYS - used == {"signed"}  # Said where it is used, in a comment of the e-paragons' mapping.


def test_ingest_page_tells_of_every_key() -> None:
    """As code in a sentence or a table, but for the fields of events, which schemas/ tells."""
    prose = re.sub(r"^```.*?^```$", "", (ROOT / PAGE).read_text(), flags=re.DOTALL | re.MULTILINE)
    told = {word for code in re.findall(r"`([^`\n]+)`", prose) for word in re.findall(r"\w+", code)}
    events = (SaleRule, ReturnRule, EnrolledRule, ActivityRule, Lines, ReturnLines, Tenders)
    of_events = {field.encode_name for kind in events for field in msgspec.structs.fields(kind)}
    assert KEYS - told - (of_events - {"where", "each", "fields", "free", "id", "time"}) == set()
