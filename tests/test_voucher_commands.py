"""`tillstream vouchers` as its users meet it, on a real broker, Redis and worker: no code but in its file, and none issued twice."""

import csv
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.pipeline_harness import Stage, stage, until
from tillstream.cli import main
from tillstream.installation import environment_of
from tillstream.schemas.vouchers import IssuedEvent, decode_voucher
from tillstream.streams.recovery import read_topic
from tillstream.streams.topics import VOUCHERS

TERMS = ("--worth", "20.00 PLN", "--expires", "2198-12-31")
TAKEN_S = 60.0


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("vouchers")) as there, there.worker():
        yield there


def invoke(here: Stage, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["vouchers", *map(str, arguments)], env=environment_of(here.config))


def generate(here: Stage, out: Path, series: str, *options: object) -> Result:
    return invoke(here, "generate", "--series", series, *TERMS, "--out", out, "--json", *options)


def codes_in(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [row["code"] for row in csv.DictReader(file)]


def issued(here: Stage, series: str) -> list[str]:
    """The hashes that the topic has, in order."""
    events = [decode_voucher(message.value() or b"") for message in read_topic(here.kafka, VOUCHERS, 0, 0)]
    return [d for event in events if isinstance(event, IssuedEvent) and event.data.series == series for d in event.data.digests]


def status(here: Stage, series: str) -> dict[str, Any]:
    result = invoke(here, "status", "--series", series, "--json")
    return json.loads(result.stdout) if result.exit_code == 0 else {"issued": 0}


def counted(here: Stage, series: str, **counts: int) -> None:
    until(lambda: {name: status(here, series).get(name) for name in counts} == counts, f"{series}: {counts}", TAKEN_S)


def test_codes_stand_in_their_file_alone_and_it_is_its_owner_s(here: Stage, tmp_path: Path) -> None:
    out = tmp_path / "codes.csv"
    result = generate(here, out, "alone", "--count", 2_500)
    assert (result.exit_code, json.loads(result.stdout)) == (
        0, {"series": "alone", "batch": "1", "codes": 2500, "file": str(out), "written": True},
    )  # fmt: skip
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    codes = codes_in(out)
    assert len(set(codes)) == 2_500
    counted(here, "alone", issued=2_500, free=2_500, redeemed=0)
    raw = b"".join(message.value() or b"" for message in read_topic(here.kafka, VOUCHERS, 0, 0))
    assert not [code for code in codes if code.encode() in raw or code.replace("-", "").encode() in raw]
    assert [path.name for path in tmp_path.iterdir()] == ["codes.csv"]


def test_batch_generated_again_issues_nothing_twice(here: Stage, tmp_path: Path) -> None:
    out = tmp_path / "codes.csv"
    assert generate(here, out, "again", "--count", 1_500).exit_code == 0
    before = out.read_bytes()
    again = generate(here, out, "again", "--count", 1_500)
    assert (again.exit_code, json.loads(again.stdout)["written"]) == (0, False)
    assert out.read_bytes() == before
    topic = issued(here, "again")
    assert (len(topic), len(set(topic))) == (3_000, 1_500)
    counted(here, "again", issued=1_500)


def test_other_file_under_a_batch_that_is_issued_is_refused(here: Stage, tmp_path: Path) -> None:
    out = tmp_path / "codes.csv"
    assert generate(here, out, "lost", "--count", 10).exit_code == 0
    kept = issued(here, "lost")
    out.unlink()
    refused = generate(here, out, "lost", "--count", 10)
    assert refused.exit_code == 2
    assert "issued already, with other codes" in refused.output
    assert not out.exists()
    assert generate(here, out, "lost", "--count", 10, "--batch", "2").exit_code == 0
    assert issued(here, "lost")[:10] == kept
    other = generate(here, out, "lost", "--count", 10, "--batch", "3")
    assert (other.exit_code, "is of another batch" in other.output) == (2, True)
    assert (generate(here, out, "lost", "--count", 11, "--batch", "2").exit_code) == 2


def test_generation_killed_in_the_middle_goes_on_with_the_same_codes(here: Stage, tmp_path: Path) -> None:
    out = tmp_path / "codes.csv"
    command = [sys.executable, "-m", "tillstream", "vouchers", "generate", "--series", "killed", *TERMS, "--count", "60000", "--out", out]
    environment = {**os.environ, **environment_of(here.config)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + TAKEN_S
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = out.read_bytes()
    assert generate(here, out, "killed", "--count", 60_000).exit_code == 0
    assert out.read_bytes() == before
    assert len(set(issued(here, "killed"))) == 60_000
    counted(here, "killed", issued=60_000)


def test_codes_of_members_are_as_many_as_the_file_lists(here: Stage, tmp_path: Path) -> None:
    members, out = tmp_path / "members.csv", tmp_path / "codes.csv"
    members.write_text("name,member_id\nAda,m1\nBob,m2\n")
    assert json.loads(generate(here, out, "members", "--member-file", members).stdout)["codes"] == 2
    with out.open(newline="") as file:
        assert [row["member_id"] for row in csv.DictReader(file)] == ["m1", "m2"]
    counted(here, "members", issued=2)
    for text, says in (("id\nm1\n", "no column member_id"), ("member_id,x\n,1\n", "line 2")):
        members.write_text(text)
        refused = generate(here, tmp_path / "more.csv", "members", "--member-file", members, "--batch", "2")
        assert (refused.exit_code, says in refused.output) == (2, True)


def test_revoked_codes_are_counted(here: Stage, tmp_path: Path) -> None:
    out = tmp_path / "codes.csv"
    generate(here, out, "revoked", "--count", 5)
    counted(here, "revoked", issued=5)
    assert invoke(here, "revoke", "--series", "revoked", "--code", codes_in(out)[0]).exit_code == 0
    counted(here, "revoked", free=4, revoked=1)
    assert invoke(here, "revoke", "--series", "revoked", "--reason", "stolen", "--json").exit_code == 0
    counted(here, "revoked", free=0, revoked=5)
    told = CliRunner().invoke(main, ["audit", "--json"], env=environment_of(here.config))
    actions = [row["data"]["action"] if "data" in row else row["action"] for row in json.loads(told.stdout)["actions"]]
    assert {"vouchers generate", "vouchers revoke"} <= set(actions)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("generate", "--series", "a/b", *TERMS, "--count", "1", "--out", "x.csv"), "--series 'a/b'"),
        (("generate", "--series", "a", *TERMS, "--out", "x.csv"), "--count"),
        (("generate", "--series", "a", *TERMS, "--time-zone", "Mars", "--count", "1", "--out", "x.csv"), "--time-zone 'Mars'"),
        (("generate", "--series", "a", "--worth", "20.001 PLN", "--expires", "2199-01-01", "--count", "1", "--out", "x.csv"), "--worth"),
        (("generate", "--series", "a", "--worth", "101%", "--expires", "2199-01-01", "--count", "1", "--out", "x.csv"), "--worth"),
        (("generate", "--series", "a", "--worth", "5%", "--expires", "2020-01-01", "--count", "1", "--out", "x.csv"), "--expires"),
        (("generate", "--series", "a", "--worth", "5%", "--expires", "9999-12-31", "--count", "1", "--out", "x.csv"), "--expires"),
        (("generate", "--series", "a", *TERMS, "--count", "1", "--out", "/nowhere/x.csv"), "--out /nowhere/x.csv"),
        (("status", "--series", "nothing"), "no series nothing"),
        (("revoke", "--series", "nothing"), "nothing is issued as nothing"),
        (("revoke", "--series", "a", "--code", "0123-4567-89AB-CDE9"), "--code"),
        (("print", "gone.csv", "--out", "x.svg"), "gone.csv"),
    ],
)
def test_mistake_is_told_in_a_line_with_its_option(here: Stage, arguments: tuple[str, ...], says: str) -> None:
    result = invoke(here, *arguments)
    assert (result.exit_code, says in result.output) == (2, True), result.output
    assert "Traceback" not in result.output


def test_printing_names_what_it_wrote(here: Stage, tmp_path: Path) -> None:
    out = tmp_path / "codes.csv"
    generate(here, out, "printed", "--count", 3)
    result = invoke(here, "print", out, "--format", "qr", "--out", tmp_path / "sheet.svg", "--json")
    assert json.loads(result.stdout) == {"codes": 3, "files": 1, "first": str(tmp_path / "sheet.svg")}
