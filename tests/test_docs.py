"""The documents are true: what they show runs, what they name is there."""

import doctest
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import msgspec
import orjson
import pytest

import tillstream
from tillstream.config import ENVIRONMENT_PREFIX, Config
from tillstream.gateway.table import ROUTES
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.program_offers import AnswerTerms, Frequency, Occasion, Offer, OfferCap, OfferChoice, OfferGoods, OfferWorth, Span
from tillstream.schemas.program_parts import Goods, Who
from tillstream.schemas.programs import (
    AWARD_FORMS,
    Award,
    Bought,
    Cap,
    Exchange,
    Expires,
    Group,
    Head,
    Level,
    Lines,
    MemberCap,
    MemberTerms,
    Program,
    Rule,
    Spending,
    Streak,
    Target,
    Tiers,
    TierWindow,
    Unit,
    When,
    Window,
    Worth,
    award_form,
)
from tillstream.simulate import Simulation
from tillstream.sinks.bought import BOUGHT_KEY
from tillstream.sinks.budgets import BUDGETS, TURN
from tillstream.sinks.carts import CART_KEYS
from tillstream.sinks.directory import MEMBERS_KEY
from tillstream.sinks.features import DOCUMENTED
from tillstream.sinks.registry import KEYS
from tillstream.sinks.replies import ANSWER, CHANNEL
from tillstream.sinks.state import keys
from tillstream.sinks.vouchers import VOUCHER_KEYS
from tillstream.streams.topics import topic_specs

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
TEST = re.compile(r"(test_\w+\.py)::(test_\w+)")
ROOMS = "schemas|kernels|models|sinks|sources|streams|gateway|src|tests|docs|programs"
PATH = re.compile(rf"(?<![\w/`.])((?:{ROOMS})/[\w./-]*\w\.(?:pyx|py|lua|toml|md)\b)")

BASE = """
[program]
id = "example"
currency = "PLN"
time_zone = "Europe/Warsaw"
[units.points]
[groups.weekend]
[[rules]]
id = "base"
award = { points = 1, per_amount = 100 }
priority = 1
"""
"""What examples of single rules stand in."""


KINDS = (
    *(Program, Head, Unit, Expires, Spending, Worth, Group, Rule, When, Goods, Lines, Award, Cap, MemberCap),
    *(MemberTerms, Bought, Window, Streak, Exchange, Target, Tiers, TierWindow, Level),
    *(Offer, OfferGoods, Occasion, OfferWorth, OfferCap, OfferChoice, Frequency, AnswerTerms, Span, Who),
)
KEYS_OF_PROGRAMS = {field.encode_name for kind in KINDS for field in msgspec.structs.fields(kind)}


class Block(NamedTuple):
    """One fenced block of a document."""

    language: str
    text: str


def blocks(name: str, language: str | None = None) -> list[Block]:
    found = [Block(*match) for match in re.findall(r"^ *```(\w+)\n(.*?)^ *```$", (ROOT / name).read_text(), re.DOTALL | re.MULTILINE)]
    return [block for block in found if language in {None, block.language}]


def names(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    missing = [link for link in LINK.findall(text) if not (document.parent / link).exists()]
    missing += [path for path in PATH.findall(text) if not (ROOT / path).exists()]
    assert not missing


def anchors(document: Path) -> set[str]:
    """What the headings of a document are called in links: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_anchors_of_links_are_headings(document: Path) -> None:
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", document.read_text()):
        assert anchor in anchors(document.parent / link if link else document), anchor


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_tests_that_are_named_are_there(document: Path) -> None:
    for file, test in TEST.findall(document.read_text()):
        assert re.search(rf"^(async )?def {test}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE), f"{file}::{test}"


def test_every_guarantee_names_its_tests() -> None:
    rows = re.findall(r"^\| (G\d) .*$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    assert rows == [f"G{number}" for number in range(1, 9)]
    for row in re.findall(r"^\| G\d .*$", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE):
        assert TEST.search(row)


def readme_files(folder: Path) -> None:
    (folder / "club.toml").write_text(blocks("README.md", "toml")[0].text)
    (folder / "receipt.json").write_text(blocks("README.md", "json")[0].text)


def test_readme_receipt_becomes_the_points_that_it_says(tmp_path: Path) -> None:
    readme_files(tmp_path)
    (command,) = [block.text for block in blocks("README.md", "sh") if "simulate" in block.text]
    settings = {name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = settings | {"PATH": path, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
    shell = ["bash", "-euo", "pipefail", "-c", command]
    ran = subprocess.run(shell, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    shown = [block.text for block in blocks("README.md", "text") if "accepted" in block.text and "verify" not in block.text]
    assert [line.rstrip() for line in ran.stdout.splitlines()] == shown[0].splitlines()
    third = (tmp_path / "ledger.jsonl").read_text().splitlines()[2]
    assert orjson.loads(third) == orjson.loads(blocks("README.md", "json")[1].text)


def test_readme_two_commands_are_what_ci_runs() -> None:
    section = re.search(r"^## Two commands$(.*?)^## ", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert section is not None
    commands = re.findall(r"^python3 .*$", section[1], re.MULTILINE)
    assert len(commands) == 2
    assert "readme_command 1" in (ROOT / ".ci/run").read_text()
    assert "readme_command 2" in (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_architecture_ledger_record_is_that_of_the_readme(tmp_path: Path) -> None:
    readme_files(tmp_path)
    records: list[bytes] = []

    class Listening(Simulation):
        def count(self, outcome: Any) -> None:
            records.extend(outcome.records)
            super().count(outcome)

    Listening(parse_program((tmp_path / "club.toml").read_text())).run([(tmp_path / "receipt.json").read_bytes().replace(b"\n", b"")])
    assert orjson.loads(records[0]) == orjson.loads(blocks("ARCHITECTURE.md", "json")[0].text)


def test_architecture_names_every_topic_and_key() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    for spec in topic_specs(32):
        assert f"| `{spec.name}` |" in text
    others = (BOUGHT_KEY, BUDGETS, TURN, MEMBERS_KEY, f"{CHANNEL}<gateway>", f"{ANSWER}<key>")
    for key in (*keys(17), *KEYS, *DOCUMENTED, *CART_KEYS, *VOUCHER_KEYS, *others):
        assert f"`{key}`" in text
    library = (ROOT / "sinks/state.lua").read_text()
    for key in re.findall(r"^--\s+\{p17\}:(\w+)", library, re.MULTILINE):
        assert f"`{{p17}}:{key}" in text


def test_configuration_table_has_every_setting_with_its_default_and_variable() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `?([^|`]*)`? \| ([^|]*) \| (.*) \| `(\w+)` \|$", text, re.MULTILINE)
    found = {name: (default, variable) for name, default, _, _, variable in rows}
    default = msgspec.structs.asdict(Config())
    assert list(found) == list(default)
    for name, value in default.items():
        assert found[name] == (msgspec.json.encode(value).decode(), ENVIRONMENT_PREFIX + name.upper()), name


def test_configuration_docstring_has_every_setting() -> None:
    for name in get_type_hints(Config):
        assert f"\n        {name}: " in (Config.__doc__ or "")


def test_configuration_example_is_read() -> None:
    (example,) = blocks("docs/configuration.md", "toml")
    program = tomllib.loads(example.text)
    assert msgspec.convert(program, Config).replication == 3


def whole(block: Block) -> str:
    """A program from an example: as it is, a rule, or a part."""
    if block.text.startswith("# rule"):
        return f"{BASE}\n[[rules]]\n{block.text}"
    if block.text.startswith("# part"):
        given = set(re.findall(r"^\[(.*)\]$", block.text, re.MULTILINE))
        parts = re.split(r"^(?=\[)", BASE, flags=re.MULTILINE)
        return block.text + "".join(part for part in parts if part.strip("[\n").split("]")[0] not in given)
    return block.text


@pytest.mark.parametrize("block", blocks("docs/program.md", "toml"), ids=lambda block: block.text.splitlines()[1])
def test_program_example_is_a_program(block: Block) -> None:
    parse_program(whole(block))


def test_program_examples_use_every_key_and_every_form() -> None:
    programs = [tomllib.loads(whole(block)) for block in blocks("docs/program.md", "toml")]
    used: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            used.update(value)
            for item in value.values():
                collect(item)
        elif isinstance(value, list):
            for item in value:
                collect(item)

    collect(programs)
    assert KEYS_OF_PROGRAMS - used == set()
    rules = [rule for program in programs for rule in program.get("rules", [])]
    assert {award_form(msgspec.convert(rule["award"], Award)) for rule in rules} == set(AWARD_FORMS.values())


def test_program_page_tells_of_every_key() -> None:
    """In words, not only in an example: as code in a sentence or a table."""
    prose = re.sub(r"^```.*?^```$", "", (ROOT / "docs/program.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    told = {word for code in re.findall(r"`([^`\n]+)`", prose) for word in re.findall(r"\w+", code)}
    assert KEYS_OF_PROGRAMS - told == set()


def test_gateway_page_names_every_endpoint() -> None:
    text = (ROOT / "docs/gateway.md").read_text()
    assert not [route for route in ROUTES if f"`{route.method} {route.path}`" not in text]


def test_dead_letter_codes_are_all_in_the_runbook() -> None:
    sources = [path for room in ("schemas", "kernels", "streams") for path in (ROOT / room).glob("*.py")]
    codes = {code for path in sources for code in re.findall(r"Malformed\(\s*\"(\w+)\"", path.read_text())}
    text = (ROOT / "docs/operations.md").read_text()
    assert codes
    assert not {code for code in codes if f"`{code}`" not in text}


def modules() -> list[str]:
    """All but what runs when it is imported, and what would load chDB into this process."""
    found = {module.name for module in pkgutil.walk_packages(tillstream.__path__, "tillstream.")}
    # An editable install keeps them outside of the path.
    for room in ("schemas", "kernels", "models", "streams", "sinks", "sources", "gateway"):
        found |= {module.name for module in pkgutil.walk_packages([str(ROOT / room)], f"tillstream.{room}.")}
    return [name for name in sorted(found) if not name.endswith("__main__") and ".chdb_" not in name]


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
