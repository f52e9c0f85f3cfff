"""Programs published live: every worker judges by what the topic says, from the date that it says, and all pass over the same nonsense."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from tests.pipeline_harness import PROGRAM, Stage, stage
from tests.test_pipeline import sale
from tillstream.cli import main
from tillstream.installation import environment_of
from tillstream.kernels.shelf import Shelf
from tillstream.operating import rebuild_redis
from tillstream.schemas.ledger import Posting, decode_record
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.publishing import encode_published, published
from tillstream.streams.programs import FOLLOW_EVERY_S, read_shelf
from tillstream.streams.topics import LEDGER, PROGRAMS

NOON = datetime(2026, 3, 7, 12, tzinfo=UTC)
FOLLOWED_S = 3 * FOLLOW_EVERY_S + 1
"""A few looks, and a machine shared with others."""


def today() -> date:
    """By the programs' time zone, as of now: a run of all tests may begin on the day before."""
    return datetime.now(ZoneInfo("Europe/Warsaw")).date()


def version(points: int = 1, begins: str | None = None, name: str = "proof") -> str:
    """The text of a version of the stage's program."""
    text = PROGRAM.replace("points = 1, per_amount", f"points = {points}, per_amount").replace('"proof"', f'"{name}"')
    return text.replace("time_zone", f"effective_from = {begins}\ntime_zone") if begins else text


def record(text: str, key: str | None = None) -> tuple[str, bytes]:
    parsed = parse_program(text)
    return key or f"{parsed.program.program.id}/{parsed.version}", encode_published(published(parsed, text, NOON))


def test_shelf_holds_what_was_published_last_of_each_date() -> None:
    old, new = record(version(1)), record(version(2))
    for records, wanted in (([old, new], version(2)), ([old, new, old], version(1)), ([old, new, (new[0], None)], version(1))):
        timetable = Shelf(records).timetable()
        assert timetable is not None
        assert [item.version for item in timetable.versions] == [parse_program(wanted).version]
    assert Shelf([old, (old[0], None)]).timetable() is None


def test_shelf_reads_the_same_before_and_after_compaction() -> None:
    """Of every key a compacted topic keeps the last record, in its place."""
    records = [record(version(1)), record(version(2)), record(version(3, "2026-05-01")), record(version(1)), (record(version(2))[0], None)]
    compacted = [item for place, item in enumerate(records) if item[0] not in [later[0] for later in records[place + 1 :]]]
    assert Shelf(compacted).shelved() == Shelf(records).shelved()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"{}", "missing required field"),
        (b"\xff", "JSON is malformed"),
        (b'{"type":"program.published","x":' + b"[" * 200_000, "recursion"),
        (record(version(2))[1].replace(b"program.published", b"program.banished"), "Invalid value"),
        (record(version(2))[1].replace(b"[[rules]]", b"[[rulez]]"), "$.rulez: unknown key"),
        (record(version(2))[1].replace(b"points = 2", b"points = 3"), "its text is version"),
        (record(version(2).replace("[units.stamps]", "[units.stars]").replace('unit = "stamps"', 'unit = "stars"').replace(
            "time_zone", "effective_from = 2026-05-01\ntime_zone"))[1], "proof: $.units.stamps: is not declared any more"),
    ],
)  # fmt: skip
def test_shelf_passes_over_what_cannot_be_obeyed_and_says_why(value: bytes, words: str) -> None:
    first, later = record(version(1)), record(version(4, "2026-06-01"))
    shelf = Shelf([first, ("bad", value), later])
    assert [words in item.problem for item in shelf.shelved()] == [False, True, False]
    timetable = shelf.timetable()
    assert timetable is not None
    assert len(timetable.versions) == 2


def test_shelf_holds_programs_that_agree_only_together_once_all_are_there() -> None:
    """Regression: two programs that share a unit could never change its terms, as each new version disagreed with the other's old one."""
    club, side = version(1), version(1, name="side").split("[[rules]]")[0] + "rules = []\n"
    side = "rules = []\n" + side.replace("rules = []\n", "")
    longer = [text.replace("after_days = 20", "after_days = 30") for text in (version(1, "2026-05-01"), side)]
    longer[1] = longer[1].replace("time_zone", "effective_from = 2026-05-01\ntime_zone")
    alone = record(side.replace("20", "40").replace("time_zone", "effective_from = 2026-07-01\ntime_zone"))
    shelf = Shelf([record(club), record(side), alone, record(longer[0])])
    assert [bool(item.problem) for item in shelf.shelved()] == [False, False, True, True]
    shelf.put(*record(longer[1]))
    assert [bool(item.problem) for item in shelf.shelved()] == [False, False, True, False, False]


def test_record_says_beside_the_text_what_stands_in_it() -> None:
    parsed = parse_program(version(2, "2026-05-01"))
    said = orjson.loads(encode_published(published(parsed, "text", NOON)))
    assert said == {
        **{"type": "program.published", "specversion": "1.0", "id": f"proof/{parsed.version}", "source": "tillstream/programs"},
        "time": "2026-03-07T12:00:00Z",
        "data": {
            **{"program_id": "proof", "version": parsed.version, "effective_from": "2026-05-01"},
            **{"published_at": "2026-03-07T12:00:00Z", "text": "text"},
        },
    }


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("programs")) as found:
        yield found


def invoke(here: Stage, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["program", *arguments], env=environment_of(here.config))


def write(here: Stage, text: str) -> str:
    path: Path = here.folder / "new.toml"
    path.write_text(text)
    return str(path)


def dated(name: str, moment: str) -> dict[str, Any]:
    """A sale of 200.00 at `moment`."""
    event = sale(name, "card-1")
    event["data"] |= {"issued_at": moment}
    return event


def judged(here: Stage) -> dict[str, tuple[str | None, int]]:
    """By receipt: the version that judged it, and what rule `base` gave."""
    found = {}
    for message in here.records(LEDGER):
        posting = decode_record(message.value() or b"")
        if isinstance(posting, Posting) and posting.receipt_id is not None:
            given = sum(sum(group.points) for group in posting.entries if group.rule_id == "base")
            found[posting.receipt_id] = (posting.program_version, given)
    return found


def test_programs_from_seed_to_publishing_to_rebuild(here: Stage) -> None:
    """One story, since a worker takes its time to join: the seed, a version while it runs, a second worker, everything anew."""
    seed = parse_program(PROGRAM).version
    begins = today() + timedelta(days=1)
    future = f"{begins}T12:00:00+02:00"
    with here.worker() as worker:
        here.send([dated("r1", "2026-03-07T12:00:00+01:00"), dated("r2", future)])
        here.settle(worker)
        assert judged(here) == {"r1": (seed, 200), "r2": (seed, 200)}
        assert list(read_shelf(here.kafka).items) == [f"proof/{seed}"]

        path = write(here, version(2, str(begins)))
        tomorrow = parse_program(version(2, str(begins))).version
        result = invoke(here, "publish", path, "--json")
        said = {"program": "proof", "version": tomorrow, "effective_from": str(begins), "published": True, "notes": []}
        assert orjson.loads(result.stdout) == {"programs": [said]}
        time.sleep(FOLLOWED_S)
        here.send([dated("r3", future), dated("r4", "2026-03-07T12:00:00+01:00")])
        here.settle(worker)
        assert {name: judged(here)[name] for name in ("r3", "r4")} == {"r3": (tomorrow, 400), "r4": (seed, 200)}
        here.send([dated("r2", future)])
        here.settle(worker)
        assert judged(here)["r2"] == (seed, 200)  # Its first judging stands.

    # The setting has no say any more: another file there changes nothing.
    Path(here.config.program).write_text(version(9))
    with here.worker() as worker:
        here.send([dated("r5", future)])
        here.settle(worker)
    assert judged(here)["r5"] == (tomorrow, 400)
    before = here.state()
    asyncio.run(rebuild_redis(here.config))
    assert here.state() == before

    assert orjson.loads(invoke(here, "publish", path, "--json").stdout)["programs"][0]["published"] is False
    listed = orjson.loads(invoke(here, "list", "--json").stdout)["programs"]
    assert [(row["version"], row["state"]) for row in listed] == [(seed, "in force"), (tomorrow, "to come")]
    assert tomorrow[:8] in invoke(here, "list").stdout


def test_publish_refuses_the_past_unless_it_is_meant(here: Stage) -> None:
    for text in (version(3), version(3, str(today() - timedelta(days=1)))):
        result = invoke(here, "publish", write(here, text))
        assert (result.exit_code, "--backdate" in result.stderr) == (2, True)
    assert invoke(here, "publish", write(here, version(3, str(today())))).exit_code == 0
    assert invoke(here, "publish", "--backdate", write(here, version(3, "2026-01-01"))).exit_code == 0


def test_publish_refuses_what_does_not_agree_with_what_is_published(here: Stage) -> None:
    number = len(read_shelf(here.kafka).items)
    later = str(today() + timedelta(days=9))
    other = version(1, later, "zoo")
    for text, words in (
        (other, "zoo: $.rules[0].id: 'base' is a rule of program 'proof' as well"),
        (version(1, later).replace("stamps", "stars"), "proof: $.units.stamps: is not declared any more"),
        (version(1, later).replace("PLN", "EUR"), "proof: $.program.currency: 'EUR' is not the 'PLN'"),
        (version(1, later).replace("fixed", "fixd"), "$.rules[2].award.fixd: unknown key"),
    ):
        result = invoke(here, "publish", write(here, text))
        assert result.exit_code == 2
        assert words in result.stderr
    assert len(read_shelf(here.kafka).items) == number


def test_list_shows_what_was_passed_over_and_why(here: Stage) -> None:
    here.send([b"nonsense"], PROGRAMS, "proof/bad")
    row = orjson.loads(invoke(here, "list", "--json").stdout)["programs"][-1]
    assert (row["program"], row["state"]) == ("proof/bad", "passed over")
    assert "malformed" in row["problem"]


def test_installation_without_any_program_says_so_and_takes_the_first_without_a_date(tmp_path: Path) -> None:
    with stage(tmp_path) as empty:
        settings = environment_of(replace(empty.config, program=""))
        result = CliRunner().invoke(main, ["worker"], env={**settings, "TILLSTREAM_PROGRAM": ""})
        assert (result.exit_code, "no program is published" in result.stderr) == (2, True)
        assert orjson.loads(invoke(empty, "list", "--json").stdout) == {"programs": []}
        assert invoke(empty, "publish", write(empty, version(1))).exit_code == 0
        assert [row["state"] for row in orjson.loads(invoke(empty, "list", "--json").stdout)["programs"]] == ["in force"]
