"""`tillstream ingest` where no server is needed: dry runs, checks of mappings, which files are taken, when a folder is looked at."""

import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result

from tests.ingest_files import CSV, row, rows
from tillstream.cli import main
from tillstream.config import ENVIRONMENT_PREFIX, Config
from tillstream.embedded.process import free_port
from tillstream.errors import UsageError
from tillstream.ingesting.checkpoints import Checkpoints, Progress
from tillstream.ingesting.files import Watchman, candidates, opened, put_away, rejects_path
from tillstream.ingesting.mappings import find_mapping
from tillstream.ingesting.run import Result as FileResult
from tillstream.ingesting.run import Round
from tillstream.ingesting.schedule import waiting_s
from tillstream.sources.ingest.decoding import REVISION
from tillstream.sources.ingest.mapping import Files, Schedule
from tillstream.sources.ingest.mapping_file import Versioned, parse_mapping

PROGRAM = """
[program]
id = "shop"
currency = "PLN"
time_zone = "Europe/Warsaw"
[units.points]
[[rules]]
id = "base"
award = { points = 1, per_amount = 100 }
"""


def invoke(*arguments: object, **settings: object) -> Result:
    environment = {ENVIRONMENT_PREFIX + name.upper(): str(value) for name, value in settings.items()}
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], env=environment)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def complaint(result: Result) -> str:
    """The one line of a user's mistake."""
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line and not line.startswith(("Usage:", "Try "))]
    return line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "old.toml").write_text(CSV)
    (tmp_path / "a.csv").write_text(rows(row("1"), row("1", "2,00"), row("2", "x"), row("3")))
    return tmp_path


def test_dry_run_prints_events_that_simulate_reads(folder: Path) -> None:
    ran = invoke("ingest", "--source", folder / "old.toml", "--dry-run", folder / "a.csv")
    assert ran.exit_code == 1
    assert [json.loads(line)["data"]["receipt_id"] for line in ran.stdout.splitlines()] == ["1", "3"]
    assert ran.stderr.splitlines() == [
        "a.csv, row 4: $.data.lines[0].amount (amount): 'x' is no number; the mapping says: decimals after ','",
        "5 rows: 2 events, 1 rows rejected, 1 passed over",
    ]
    (folder / "events.jsonl").write_text(ran.stdout)
    (folder / "program.toml").write_text(PROGRAM)
    simulated = json.loads(invoke("simulate", "--program", folder / "program.toml", "--json", folder / "events.jsonl").stdout)
    assert (simulated["accepted"], simulated["rejected"]) == (2, [])
    (units,) = simulated["accounts"].values()
    assert units["points"]["balance"] == 17 + 15
    assert not list(folder.glob("*.rejects.jsonl"))


def test_check_lists_all_mistakes_with_paths(folder: Path) -> None:
    assert "no mistakes; 2 events, version" in invoke("ingest", "check", folder / "old.toml").stdout
    assert json.loads(invoke("ingest", "check", "--json", folder / "old.toml").stdout)["ok"]
    (folder / "old.toml").write_text(CSV.replace('sku = "{sku}"', 'skuu = "{sku}"'))
    ran = invoke("ingest", "check", folder / "old.toml")
    assert ran.exit_code == 2
    assert "$.sale[0].lines.skuu: unknown key (did you mean 'sku'?)" in ran.stderr
    assert "$.sale[0].lines.sku: is missing" in ran.stderr
    found = json.loads(invoke("ingest", "check", "--json", folder / "old.toml").stdout)
    assert [mistake["path"] for mistake in found["mistakes"]] == ["$.sale[0].lines.skuu", "$.sale[0].lines.sku"]


def test_bad_usage_is_one_line(folder: Path) -> None:
    source = ("--source", folder / "old.toml")
    assert "no mapping 'nobody'" in complaint(invoke("ingest", "--source", "nobody", folder / "a.csv"))
    assert "did you mean 'old'?" in complaint(invoke("ingest", "--source", "ol", folder / "a.csv", sources=folder))
    assert "No such file or directory" in complaint(invoke("ingest", "--source", folder / "no.toml", folder / "a.csv"))
    assert "no such file or folder" in complaint(invoke("ingest", *source, "--dry-run", folder / "b.csv"))
    assert "goes with neither" in complaint(invoke("ingest", *source, "--dry-run", "--json", folder / "a.csv"))
    assert "Missing option '--source'" in complaint(invoke("ingest", folder / "a.csv"))


@pytest.mark.slow
def test_kafka_that_is_away_is_one_line(folder: Path) -> None:
    port = free_port()
    ran = invoke("ingest", "--source", folder / "old.toml", folder / "a.csv", kafka=f"127.0.0.1:{port}", ingest_state=folder / "state")
    assert complaint(ran) == f"Error: Kafka does not answer at 127.0.0.1:{port}; start it or change the setting kafka"


def test_mapping_is_found_by_its_name_in_the_folder_of_sources(folder: Path) -> None:
    assert find_mapping(Config(sources=str(folder)), "old") == folder / "old.toml"
    with pytest.raises(UsageError, match="no mapping"):
        find_mapping(Config(sources=str(folder / "x")), "../old")


def test_folder_gives_regular_files_of_the_pattern_by_name(folder: Path) -> None:
    for name in ("b.csv", ".hidden.csv", "c.txt", "a.csv.12345678.rejects.jsonl", "b.csv.ok"):
        (folder / name).write_text("")
    (folder / "link.csv").symlink_to("/etc/passwd")
    (folder / "folder.csv").mkdir()
    assert [path.name for path in candidates(folder, Files(pattern="*.csv"))] == ["a.csv", "b.csv"]
    assert [path.name for path in candidates(folder, Files(marker=".ok"))] == ["a.csv", "b.csv", "c.txt", "old.toml"]
    with pytest.raises(UsageError, match="a link"):
        candidates(folder / "link.csv", Files())
    with pytest.raises(UsageError), opened(folder / "link.csv"):
        pass


def test_file_is_complete_when_it_has_not_changed_for_a_while(folder: Path) -> None:
    path = folder / "a.csv"
    watchman = Watchman(Files(stable_s=100))
    os.utime(path, (time.time() - 30, time.time() - 30))
    assert 69 < watchman.waiting_s(path) <= 70
    os.utime(path, (time.time() - 100, time.time() - 100))
    assert watchman.waiting_s(path) == 0
    os.utime(path, (time.time() + 3600, time.time() + 3600))  # The clock of the machine that wrote it is ahead.
    assert 99 < watchman.waiting_s(path) <= 100
    look = watchman.looks[path]
    watchman.looks[path] = look._replace(seen_s=look.seen_s - 100)
    assert watchman.waiting_s(path) == 0
    with path.open("a") as file:
        file.write("x")
    assert watchman.waiting_s(path) > 99


def test_file_with_a_marker_is_complete_when_the_marker_is_there(folder: Path) -> None:
    watchman = Watchman(Files(marker=".ok"))
    assert watchman.waiting_s(folder / "a.csv") == float("inf")
    (folder / "a.csv.ok").write_text("")
    assert watchman.waiting_s(folder / "a.csv") == 0


def test_done_files_are_moved_with_their_marker_and_overwrite_nothing(folder: Path) -> None:
    files = Files(done="done", marker=".ok")
    (folder / "a.csv.ok").write_text("")
    assert put_away(folder / "a.csv", "c0ffee0012", files) == folder / "done" / "a.csv"
    assert not (folder / "a.csv.ok").exists()
    (folder / "a.csv").write_text("second")
    assert put_away(folder / "a.csv", "c0ffee0012", files) == folder / "done" / "a.c0ffee00.csv"
    assert rejects_path(folder / "a.csv", "c0ffee0012", Files(rejects="bad")) == folder / "bad" / "a.csv.c0ffee00.rejects.jsonl"


class Kept:
    """Keeps what is sent, and can fail."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.sent: list[dict[str, Any]] = []
        self.fail_at = fail_at

    def send(self, events: Any) -> int:
        self.sent += events
        if self.fail_at is not None and len(self.sent) > self.fail_at:
            raise UsageError("Kafka is gone")
        return len(events)


def go(folder: Path, sender: Kept, mapping: Versioned, target: str = "a.csv") -> list[FileResult]:
    results: list[FileResult] = []
    with Checkpoints(folder / "state", "old") as checkpoints:
        Round(mapping, checkpoints).run(folder / target, sender, results.append, lambda seconds: None)
    return results


QUIET = parse_mapping(CSV + "\n[files]\nstable_s = 0\n")


def test_same_file_again_sends_nothing_also_under_another_name(folder: Path) -> None:
    sender = Kept()
    (first,) = go(folder, sender, QUIET)
    assert (first.state, first.rows, first.events, first.rejected, first.passed) == ("new", 5, 2, 1, 1)
    (folder / "b.csv").write_bytes((folder / "a.csv").read_bytes())
    assert [result.state for result in go(folder, sender, QUIET) + go(folder, sender, QUIET, "b.csv")] == ["unchanged", "unchanged"]
    assert len(sender.sent) == 2
    (reject,) = (folder / (first.rejects or "")).read_text().splitlines()
    assert (folder / (first.rejects or "")).stat().st_mode & 0o077 == 0
    assert json.loads(reject) == {
        **{"file": "a.csv", "row": 4, "field": "$.data.lines[0].amount", "from": "amount", "message": "'x' is no number"},
        **{"fix": "the mapping says: decimals after ','", "raw": row("2", "x"), "rest": False},
    }


def test_corrected_mapping_reads_the_file_again_and_replaces_its_rejects(folder: Path) -> None:
    sender = Kept()
    (first,) = go(folder, sender, QUIET)
    text = CSV.replace('amount = "{amount}"', 'amount = { text = "{amount}", table = { x = "1" }, otherwise = "2" }')
    (second,) = go(folder, sender, parse_mapping(text + "\n[files]\nstable_s = 0\n"))
    assert (second.state, second.rejected, second.rejects) == ("new", 0, None)
    assert not (folder / (first.rejects or "")).exists()


def test_run_that_failed_goes_on_behind_its_checkpoint(folder: Path) -> None:
    numbers = range(5_000)
    (folder / "a.csv").write_text(rows(*[row(f"r{number}", "x" if number % 1_000 == 7 else "1,00") for number in numbers]))
    failing, sender = Kept(fail_at=2_500), Kept()
    with pytest.raises(UsageError):
        go(folder, failing, QUIET)
    (result,) = go(folder, sender, QUIET)
    assert (result.state, result.rows, result.events, result.rejected) == ("resumed", 5_001, 4_995, 5)
    assert 2_000 <= len(sender.sent) < 4_995
    sent = [event["data"]["receipt_id"] for event in failing.sent[:2_500] + sender.sent]
    assert set(sent) == {f"r{number}" for number in numbers if number % 1_000 != 7}
    rejected = [json.loads(line)["row"] for line in Path(result.rejects or "").read_text().splitlines()]
    assert rejected == [number + 2 for number in numbers if number % 1_000 == 7]


def test_rejects_behind_the_checkpoint_are_cut_off_on_resuming(folder: Path) -> None:
    (first,) = go(folder, Kept(), QUIET)
    with opened(folder / "a.csv") as there, Checkpoints(folder / "state", "old") as checkpoints:
        checkpoints.save(f"{QUIET.version}.{REVISION}", there.content, "a.csv", Progress())
    Path(first.rejects or "").write_text("half a li")
    (again,) = go(folder, Kept(), QUIET)
    assert len(Path(again.rejects or "").read_text().splitlines()) == 1


def test_file_that_cannot_be_read_to_its_end_stays_where_it_is(folder: Path) -> None:
    moving = parse_mapping(CSV + '\n[files]\nstable_s = 0\ndone = "done"\n')
    (folder / "b.csv").write_text("no;such;header\n1;2;3\n")
    assert [(result.state, Path(result.file).parent.name) for result in go(folder, Kept(), moving)] == [("new", "done")]
    (result,) = go(folder, Kept(), moving, "b.csv")
    assert (result.state, result.rejected, (folder / "b.csv").exists()) == ("unreadable", 1, True)


def test_file_that_is_still_written_is_left_alone_in_a_folder(folder: Path) -> None:
    patient = parse_mapping(CSV + '\n[files]\nstable_s = 60\npattern = "*.csv"\n')
    (result,) = go(folder, Kept(), patient, ".")
    assert result.state == "left"


def test_file_of_a_folder_that_fails_does_not_keep_the_others(folder: Path) -> None:
    (folder / "b.csv").write_text(rows(row("9")))
    by_pattern = parse_mapping(CSV + '\n[files]\nstable_s = 0\npattern = "*.csv"\ndone = "old.toml"\n')
    first, second = go(folder, Kept(), by_pattern, ".")
    assert (first.state, second.state) == ("failed", "failed")
    assert "cannot be moved" in (second.reason or "")


def test_file_that_changes_while_it_is_read_is_not_done(folder: Path) -> None:
    class Writing(Kept):
        def send(self, events: Any) -> int:
            with (folder / "a.csv").open("a") as file:
                file.write(row("4") + "\n")
            return super().send(events)

    assert [result.state for result in go(folder, Writing(), QUIET)] == ["changed"]
    (again,) = go(folder, Kept(), QUIET)
    assert (again.state, again.events) == ("new", 3)


def test_second_run_of_a_source_is_refused(folder: Path) -> None:
    with (
        Checkpoints(folder / "state", "old"),
        Checkpoints(folder / "state", "other"),
        pytest.raises(UsageError, match="another run of the source 'old' is going on"),
        Checkpoints(folder / "state", "old"),
    ):
        pass


@pytest.mark.parametrize(
    ("schedule", "now", "seconds"),
    [
        (Schedule(every="90s"), "2026-03-07T12:00:00+01:00", 90),
        (Schedule(every="2h"), "2026-03-07T12:00:00+01:00", 7_200),
        (Schedule(at=["06:00", "18:30"]), "2026-03-07T12:00:00+01:00", 6.5 * 3600),
        (Schedule(at=["06:00", "18:30"]), "2026-03-07T18:30:00+01:00", 11.5 * 3600),
        (Schedule(at=["03:30"]), "2026-03-28T22:30:00+00:00", 3 * 3600),  # 23:30 in Warsaw, and clocks are put forward at 02:00.
        (Schedule(), "2026-03-07T12:00:00+01:00", 2),
    ],
)
def test_next_look_is_when_the_schedule_says(schedule: Schedule, now: str, seconds: float) -> None:
    assert waiting_s(schedule, ZoneInfo("Europe/Warsaw"), datetime.fromisoformat(now)) == seconds
