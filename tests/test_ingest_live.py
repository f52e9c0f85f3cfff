"""`tillstream ingest` on a real broker: what a file gives is what `simulate` says of its dry run, through kill -9 and an absent Kafka."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.ingest_files import CSV, row, rows
from tests.pipeline_harness import Stage, enrolled, expected, stage, until
from tillstream.embedded.broker import Broker
from tillstream.embedded.process import free_port
from tillstream.installation import environment_of
from tillstream.streams.topics import MEMBERS, RECEIPTS, ensure_topics

FOLDER = Path(__file__).parent.parent / "mappings"
WAIT_S = 60.0
RECEIPTS_OF_FILE = 30_000


class Ingest:
    """Runs the command against a stage, with its state in a folder of the test."""

    def __init__(self, here: Stage, folder: Path) -> None:
        self.stage = here
        self.folder = folder
        settings = {name: value for name, value in os.environ.items() if not name.startswith("TILLSTREAM_")}
        self.environment = {**settings, **environment_of(here.config), "TILLSTREAM_INGEST_STATE": str(folder / "state")}

    def start(self, *arguments: object, **environment: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "tillstream", "ingest", *map(str, arguments)]
        merged = {**self.environment, **environment}
        return subprocess.Popen(command, env=merged, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        process = self.start(*arguments)
        out, err = process.communicate(timeout=WAIT_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def outcomes(self) -> int:
        """How far the checkpoint of the only file is."""
        try:
            with sqlite3.connect(f"file:{self.folder / 'state' / 'checkpoints.sqlite'}?mode=ro", uri=True) as store:
                found = store.execute("SELECT sum(outcomes) FROM files").fetchone()
        except sqlite3.Error:
            return 0
        store.close()
        return found[0] or 0


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("ingest")) as started:
        yield started


@pytest.fixture
def ingest(here: Stage, tmp_path: Path) -> Ingest:
    (tmp_path / "old.toml").write_text(CSV.replace('id = "old"', f'id = "{tmp_path.name}"') + "\n[files]\nstable_s = 0\n")
    return Ingest(here, tmp_path)


def sent(ingest: Ingest) -> list[str]:
    """The receipts of this test's source on the topic, by natural key, in all."""
    events = [orjson.loads(message.value() or b"") for message in ingest.stage.records(RECEIPTS, ingest.stage.config.partitions)]
    return [event["data"]["receipt_id"] for event in events if event["source"] == ingest.folder.name]


def test_distributors_file_gives_what_simulate_says_of_its_dry_run(here: Stage, ingest: Ingest) -> None:
    mapping = FOLDER / "distributor-csv.toml"
    drop = ingest.folder / "drop"
    drop.mkdir()
    text = (FOLDER / "samples" / "distributor.csv").read_bytes().decode("cp1250")
    more = [
        f"FV;OP1;FV/{number}/26;08.03.2026;10:{number % 60:02};52500000{number % 7:02};{line};59{number:011};NAB;Łąka;{line},5;"
        f"{number % 900},{number % 100:02};;;;x"
        for number in range(1_000, 1_300)
        for line in range(1, 4)
    ]
    (drop / "sales.csv").write_bytes("\r\n".join([*text.splitlines(), *more, ""]).encode("cp1250"))
    os.utime(drop / "sales.csv", (0, 0))
    dry = ingest.run("--source", mapping, "--dry-run", drop / "sales.csv")
    assert dry.returncode == 0, dry.stderr
    ran = ingest.run("--source", mapping, "--json", drop)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["events"], told["rejected"], told["rows"]) == (303, 0, 7 + 900)
    assert told["files"][0]["file"] == str(drop / "done" / "sales.csv")
    with here.worker() as worker:
        here.settle(worker)
    assert here.balances() == expected(line.encode() for line in dry.stdout.splitlines())["accounts"]
    assert here.dead_letters() == []


@pytest.mark.slow
def test_killed_in_the_middle_of_a_file_it_goes_on_there_and_every_receipt_is_sent(ingest: Ingest) -> None:
    path = ingest.folder / "big.csv"
    bad = range(11, RECEIPTS_OF_FILE, 1_000)
    path.write_text(rows(*[row(f"r{number}", "x" if number in bad else "1,00") for number in range(RECEIPTS_OF_FILE)]))
    arguments = ("--source", ingest.folder / "old.toml", "--json", path)
    process = ingest.start(*arguments)
    until(lambda: ingest.outcomes() > 0, "a first checkpoint", WAIT_S)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=WAIT_S)
    killed_at, there = ingest.outcomes(), len(sent(ingest))
    assert 0 < killed_at < RECEIPTS_OF_FILE, "killed before its end"
    ran = ingest.run(*arguments)
    assert ran.returncode == 1, ran.stderr
    (told,) = json.loads(ran.stdout)["files"]
    assert (told["state"], told["events"], told["rejected"]) == ("resumed", RECEIPTS_OF_FILE - len(bad), len(bad))
    counts = Counter(sent(ingest))
    assert set(counts) == {f"r{number}" for number in range(RECEIPTS_OF_FILE) if number not in bad}
    again = sum(counts.values()) - len(counts)
    assert again == there - (killed_at - 1 - len([number for number in bad if number < killed_at - 1]))
    assert again <= 1_000, "no more than a batch is sent twice"
    rejected = [json.loads(line)["row"] for line in Path(told["rejects"]).read_text().splitlines()]
    assert rejected == [number + 2 for number in bad]
    before = len(sent(ingest))
    unchanged = ingest.run(*arguments)
    assert json.loads(unchanged.stdout)["files"][0]["state"] == "unchanged"
    assert len(sent(ingest)) == before


@pytest.mark.slow
def test_watch_told_to_end_in_the_middle_of_a_file_ends_at_a_checkpoint(ingest: Ingest) -> None:
    path = ingest.folder / "big.csv"
    path.write_text(rows(*[row(f"r{number}", "1,00") for number in range(RECEIPTS_OF_FILE)]))
    arguments = ("--source", ingest.folder / "old.toml", "--json", path)
    process = ingest.start(*arguments, "--watch")
    until(lambda: ingest.outcomes() > 0, "a first checkpoint", WAIT_S)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, json.loads(out)["state"]) == (0, "stopped"), err
    there = len(sent(ingest))
    assert there == json.loads(out)["events"] < RECEIPTS_OF_FILE
    ran = ingest.run(*arguments)
    assert json.loads(ran.stdout)["files"][0]["state"] == "resumed"
    assert sorted(sent(ingest)) == sorted(f"r{number}" for number in range(RECEIPTS_OF_FILE)), "each once, as nothing was killed"


def test_members_go_to_their_topic(here: Stage, ingest: Ingest) -> None:
    (ingest.folder / "crm.toml").write_text(
        f"""
[source]
id = "{ingest.folder.name}"
time_zone = "UTC"
[csv]
[fields]
id = "id"
card = "card"
[[enrolled]]
id = "crm-{{id}}"
time = "2026-03-01T00:00:00Z"
member_id = "{{id}}"
identities = [{{ scheme = "card", value = "{{card}}" }}]
"""
    )
    (ingest.folder / "crm.csv").write_text("id,card\nm77,c77\n")
    os.utime(ingest.folder / "crm.csv", (0, 0))
    ran = ingest.run("--source", ingest.folder / "crm.toml", ingest.folder / "crm.csv")
    assert ran.returncode == 0, ran.stderr
    events = [orjson.loads(message.value() or b"") for message in here.records(MEMBERS, 1)]
    (event,) = [event for event in events if event["source"] == ingest.folder.name]
    assert event["data"] == enrolled("m77", "c77")["data"]


@pytest.mark.slow
def test_watched_folder_is_taken_file_by_file_as_they_become_complete(ingest: Ingest) -> None:
    drop = ingest.folder / "drop"
    drop.mkdir()
    mapping = ingest.folder / "old.toml"
    text = mapping.read_text().replace("stable_s = 0", 'stable_s = 1\npattern = "*.csv"\ndone = "done"')
    mapping.write_text(text + '\n[schedule]\nevery = "1s"\n')
    process = ingest.start("--source", mapping, "--watch", "--json", drop)
    try:
        with (drop / "one.csv").open("w") as file:
            for number in range(4):  # Still being written for two seconds: it must not be taken in parts.
                file.write(rows(row(f"r{number}")) if number == 0 else row(f"r{number}") + "\n")
                file.flush()
                time.sleep(0.5)
        until((drop / "done" / "one.csv").exists, "the first file taken", WAIT_S)
        (drop / "two.csv").write_text(rows(row("r9")))
        until((drop / "done" / "two.csv").exists, "the second file taken", WAIT_S)
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, err
    told = [json.loads(line) for line in out.splitlines()]
    assert [(Path(one["file"]).name, one["events"]) for one in told] == [("one.csv", 4), ("two.csv", 1)]
    assert sorted(sent(ingest)) == ["r0", "r1", "r2", "r3", "r9"]


@pytest.mark.slow
def test_watch_waits_for_a_kafka_that_is_away(ingest: Ingest, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop" / "a.csv").write_text(rows(row("r1")))
    process = ingest.start("--source", tmp_path / "old.toml", "--watch", tmp_path / "drop", TILLSTREAM_KAFKA=f"127.0.0.1:{port}")
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == f"Kafka does not answer at 127.0.0.1:{port}; start it or change the setting kafka; waiting\n"
        with Broker(port=port) as address:
            time.sleep(2)  # A broker without topics is no reason to end either.
            ensure_topics(address, ingest.stage.config.partitions, 1)
            assert process.stdout is not None
            assert "2 rows: 1 events, 0 rows rejected, 1 passed over" in process.stdout.readline()
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, err) == (0, "Kafka answers again\n")
