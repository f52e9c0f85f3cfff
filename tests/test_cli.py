"""The command line as its users meet it: formats to the letter, mistakes in one line, nothing left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import redis as redis_py
from click.testing import CliRunner, Result
from confluent_kafka import Producer, TopicPartition

from tillstream.cli import main
from tillstream.config import CONFIG_FILE, ENVIRONMENT_PREFIX, Config, load_program
from tillstream.embedded.broker import Broker
from tillstream.embedded.process import HOST, free_port
from tillstream.embedded.redis import Redis
from tillstream.kernels.routed import Outcome
from tillstream.progress import group_consumer
from tillstream.simulate import Simulation
from tillstream.streams.topics import LEDGER, ensure_topics

EXAMPLES = Path(__file__).parent / "examples"
PARTITIONS = 2

PROGRAM = """
[program]
id = "corner-shop"
currency = "PLN"
time_zone = "Europe/Warsaw"

[units.points]
expires = { after_months = 12, at = "month_end" }

[[rules]]
id = "base"
award = { points = 1, per_amount = 100 }
"""

ENTRY_KEYS = [
    *("entry_id", "account_id", "unit", "kind", "points", "source", "event_id", "receipt_id", "line_no", "rule_id", "program_version"),
    *("occurred_at", "expires_on", "reverses"),
]
"""DESIGN.md §7, in its order."""

DEMO_S = 240
"""The demo of 300 receipts takes 15 s on a quiet machine; chDB alone was seen to need 11 s to load on a busy one."""


def sale(receipt_id: str = "r1", amount: int = 1599, **data: Any) -> dict[str, Any]:
    """A sale of one line by member m1."""
    return {
        "specversion": "1.0",
        "id": f"e-{receipt_id}",
        "source": "tills",
        "type": "receipt.sale",
        "time": "2026-03-07T16:42:11Z",
        "data": {
            "receipt_id": receipt_id,
            "store_id": "PL-0001",
            "register_id": "3",
            "business_date": "2026-03-07",
            "issued_at": "2026-03-07T17:42:10+01:00",
            "currency": "PLN",
            "member": {"scheme": "member", "value": "m1"},
            "lines": [{"line_no": 1, "sku": "5901234123457", "quantity_milli": 1000, "amount": amount}],
            **data,
        },
    }


def brought_back(receipt_id: str, original: str, amount: int) -> dict[str, Any]:
    """A return of some of a sale's line."""
    event = sale(receipt_id)
    line = {"line_no": 1, "original_line_no": 1, "quantity_milli": 500, "amount": amount}
    event["type"] = "receipt.return"
    event["data"] = event["data"] | {"original_receipt_id": original, "lines": [line]}
    return event


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder and no settings: what stands around must not decide."""
    for name in [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def program(tmp_path: Path) -> str:
    (tmp_path / "club.toml").write_text(PROGRAM)
    return "club.toml"


def invoke(*arguments: str, **settings: str) -> Result:
    """Runs a command in this process; a traceback instead of an exit status fails the test."""
    result = CliRunner().invoke(main, arguments, env={ENVIRONMENT_PREFIX + name.upper(): value for name, value in settings.items()})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def complaint(result: Result) -> str:
    """The one line that a user's mistake gives, with exit status 2."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line and not line.startswith(("Usage:", "Try "))]
    assert len(lines) == 1, result.stderr
    assert result.stdout == ""
    return lines[0]


def write_events(*events: dict[str, Any] | str) -> str:
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    Path("events.jsonl").write_text("\n".join(lines) + "\n")
    return "events.jsonl"


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands(main)), ids=" ".join)
def test_help_of_every_command_shows_an_example(path: tuple[str, ...]) -> None:
    result = invoke(*path, "--help")
    assert result.exit_code == 0
    assert f"Example: tillstream {' '.join(path)}" in " ".join(result.stdout.split())


def test_examples_in_helps_are_commands_that_parse() -> None:
    for path in commands(main):
        command: click.Command = main
        for name in path:
            assert isinstance(command, click.Group)
            command = command.commands[name]
        example = (command.epilog or "").removeprefix("Example: tillstream ").split()
        command.make_context(" ".join(path), example[len(path) :])


def test_simulate_json_is_to_the_letter(program: str) -> None:
    events = write_events(
        sale("r1", 1599),
        sale("r1", 1599),
        sale("r1", 1600),
        brought_back("b1", "r1", 800),
        brought_back("b2", "r9", 100),
        sale("r2", -5),
        "not json",
    )
    result = invoke("simulate", "--program", program, "--json", events)
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert list(found) == ["events", "accepted", "duplicates", "waiting", "rejected", "accounts"]
    for rejected in found["rejected"]:
        assert list(rejected) == ["index", "code", "path", "message"]
    assert [(r["index"], r["code"], r["path"]) for r in found["rejected"]] == [
        (2, "conflict", "$.data"),
        (5, "invalid", "$.data.lines[0].amount"),
        (6, "not_json", "$"),
    ]
    del found["rejected"]
    assert found == {
        "events": 7,
        "accepted": 2,
        "duplicates": 1,
        "waiting": 1,
        "accounts": {
            "m1": {"points": {"balance": 8, "pending": 0, "held": 0, "lots": [{"expires_on": "2027-03-31", "points": 8}]}},
        },
    }


def test_simulate_ledger_lines_are_to_the_letter(program: str) -> None:
    events = write_events(sale("r1", 1599), brought_back("b1", "r1", 800))
    result = invoke("simulate", "--program", program, "--ledger", "out.jsonl", "--json", events)
    assert result.exit_code == 0
    version = json.loads(invoke("program", "check", "--json", program).stdout)["version"]
    lines = Path("out.jsonl").read_text().splitlines()
    accrual, reversal = [json.loads(line) for line in lines]
    assert list(accrual) == list(reversal) == ENTRY_KEYS
    assert accrual == {
        "entry_id": accrual["entry_id"],
        "account_id": "m1",
        "unit": "points",
        "kind": "accrual",
        "points": 15,
        "source": "tills",
        "event_id": "e-r1",
        "receipt_id": "r1",
        "line_no": 1,
        "rule_id": "base",
        "program_version": version,
        "occurred_at": "2026-03-07T17:42:10+01:00",
        "expires_on": "2027-03-31",
        "reverses": None,
    }
    changed = {"kind": "reversal", "points": -7, "event_id": "e-b1", "receipt_id": "b1", "reverses": accrual["entry_id"]}
    assert reversal == accrual | changed | {"entry_id": reversal["entry_id"]}
    assert reversal["entry_id"] != accrual["entry_id"]


def test_simulate_points_that_never_expire_have_a_null_date(tmp_path: Path) -> None:
    (tmp_path / "club.toml").write_text(PROGRAM.replace('expires = { after_months = 12, at = "month_end" }', ""))
    result = invoke("simulate", "--program", "club.toml", "--ledger", "out.jsonl", "--json", write_events(sale()))
    assert json.loads(result.stdout)["accounts"]["m1"]["points"]["lots"] == [{"expires_on": None, "points": 15}]
    assert json.loads(Path("out.jsonl").read_text())["expires_on"] is None


def test_simulate_line_with_0_points_writes_no_entry(program: str) -> None:
    result = invoke("simulate", "--program", program, "--ledger", "out.jsonl", "--json", write_events(sale(amount=99)))
    assert json.loads(result.stdout)["accounts"] == {}
    assert Path("out.jsonl").read_text() == ""


def test_simulate_explain_json_adds_explanations_and_nothing_else(program: str) -> None:
    events = write_events(sale(), sale("r2"))
    plain = json.loads(invoke("simulate", "--program", program, "--json", events).stdout)
    explained = json.loads(invoke("simulate", "--program", program, "--json", "--explain", "--receipt", "r2", events).stdout)
    (explanation,) = explained.pop("explanations")
    assert explained == plain
    assert (explanation["receipt_id"], [rule["points"] for rule in explanation["rules"]]) == ("r2", [15])


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        ("--explain --receipt r7", 1, "no receipt 'r7' is among these events"),
        ("--explain --receipt r1 --line 5", 1, "receipt 'r1' has no line 5"),
        ("--explain --receipt r3", 1, "receipt 'r3' was refused: $.data.currency: EUR is not the program's PLN"),
        ("--receipt r1", 2, "--receipt goes with --explain"),
        ("--explain --line 1", 2, "--line with --receipt"),
    ],
)
def test_simulate_explain_of_what_is_not_there_is_one_line(program: str, arguments: str, status: int, named: str) -> None:
    events = write_events(sale(), sale("r3", currency="EUR"))
    result = invoke("simulate", "--program", program, *arguments.split(), events)
    assert (result.exit_code, result.stdout) == (status, "")
    assert named in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("number", ["01", "04", "06"])
def test_simulate_of_an_example_comes_to_what_it_must(number: str) -> None:
    result = invoke("simulate", "--program", f"{EXAMPLES}/{number}.program.toml", "--json", f"{EXAMPLES}/{number}.events.jsonl")
    expected = json.loads((EXAMPLES / f"{number}.expected.json").read_text())
    found = json.loads(result.stdout)
    balances = {account: units["points"]["balance"] for account, units in found["accounts"].items()}
    assert balances == {account: points for account, points in expected["balances"].items() if points}
    assert (found["duplicates"], found["waiting"]) == (expected["duplicates"], expected["waiting"])


def test_simulate_reads_standard_input_and_shows_a_table(program: str) -> None:
    result = CliRunner().invoke(main, ["simulate", "--program", program, "-"], input=json.dumps(sale()))
    assert result.exit_code == 0
    assert "1 accepted" in result.stdout
    assert "15 until 2027-03-31" in result.stdout


def test_simulate_judges_each_receipt_by_the_programs_of_its_date(tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text(PROGRAM)
    doubled = PROGRAM.replace("points = 1", "points = 2")
    (tmp_path / "new.toml").write_text(doubled.replace("time_zone", "effective_from = 2026-04-01\ntime_zone"))
    (tmp_path / "side.toml").write_text(PROGRAM.replace("corner-shop", "side").replace('"base"', '"extra"'))
    april = "2026-04-01T00:30:00+02:00"
    events = write_events(sale(), sale("r2", issued_at=april))
    result = invoke("simulate", "--program", "new.toml", "--program", "old.toml", "--ledger", "out.jsonl", "--json", events)
    assert json.loads(result.stdout)["accounts"]["m1"]["points"]["balance"] == 15 + 31
    versions = [json.loads(line)["program_version"] for line in Path("out.jsonl").read_text().splitlines()]
    assert versions == [load_program("old.toml").version, load_program("new.toml").version]
    result = invoke("simulate", "--program", "new.toml", "--program", "old.toml", "--program", "side.toml", "--json", events)
    assert json.loads(result.stdout)["accounts"]["m1"]["points"]["balance"] == 15 + 15 + 31 + 15


def test_simulate_with_programs_that_do_not_agree_names_the_place(program: str, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(PROGRAM.replace("corner-shop", "other"))
    result = invoke("simulate", "--program", program, "--program", "other.toml", write_events(sale()))
    assert "other: $.rules[0].id: 'base' is a rule of program 'corner-shop' as well" in complaint(result)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["simulate", "--program", "club.toml", "nowhere.jsonl"], "nowhere.jsonl"),
        (["simulate", "--program", "nowhere.toml", "events.jsonl"], "nowhere.toml"),
        (["simulate", "--program", "club.toml", "--ledger", "nowhere/out.jsonl", "events.jsonl"], "nowhere/out.jsonl"),
        (["simulate", "events.jsonl"], "--program"),
        (["program", "check", "nowhere.toml"], "nowhere.toml"),
        (["worker"], "program.toml"),
        (["worker", "--role", "everything"], "everything"),
        (["up", "--program", "nowhere.toml"], "nowhere.toml"),
        (["demo", "--receipts", "0"], "--receipts"),
        (["replay", "nowhere"], "nowhere"),
        (["replay", "generated", "--returns", "2"], "--returns"),
        (["nonsense"], "nonsense"),
    ],
)
def test_mistake_of_a_user_is_one_line_that_names_it(program: str, arguments: list[str], named: str) -> None:
    write_events(sale())
    assert named in complaint(invoke(*arguments))


def test_program_check_good_file_tells_its_version(program: str) -> None:
    result = invoke("program", "check", program)
    assert result.exit_code == 0
    assert re.fullmatch(r"club\.toml: no mistakes; 1 rules, version [0-9a-f]{32}\n", result.stdout)
    found = json.loads(invoke("program", "check", "--json", program).stdout)
    assert list(found) == ["ok", "version", "mistakes", "warnings"]
    assert found["ok"] is True
    assert found["mistakes"] == found["warnings"] == []


def test_program_check_tells_warnings_and_lets_them_pass(tmp_path: Path) -> None:
    (tmp_path / "club.toml").write_text(PROGRAM.replace('expires = { after_months = 12, at = "month_end" }', ""))
    result = invoke("program", "check", "club.toml")
    assert result.exit_code == 0
    assert "warning: $.units.points: never expires" in result.stdout
    (found,) = json.loads(invoke("program", "check", "--json", "club.toml").stdout)["warnings"]
    assert list(found) == ["path", "message", "hint"]
    assert found["path"] == "$.units.points"


def test_program_diff_tells_differences_in_words_by_its_exit_status(program: str, tmp_path: Path) -> None:
    (tmp_path / "new.toml").write_text(PROGRAM.replace("points = 1", "points = 2"))
    (tmp_path / "same.toml").write_text("# Another layout.\n" + PROGRAM + "priority = 100\n")
    result = invoke("program", "diff", program, "new.toml")
    assert (result.exit_code, result.stdout) == (1, "rule base: gives 2 points per 1.00 instead of 1\n1 difference\n")
    result = invoke("program", "diff", "--json", program, "new.toml")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["equal"], found["old"], found["new"]) == (False, load_program(program).version, load_program("new.toml").version)
    wanted = {"path": "rules.base.award", "kind": "changed", "text": "rule base: gives 2 points per 1.00 instead of 1"}
    assert found["differences"] == [wanted]
    result = invoke("program", "diff", program, "same.toml")
    assert (result.exit_code, result.stdout) == (0, "no difference\n")
    assert json.loads(invoke("program", "diff", "--json", program, "same.toml").stdout)["differences"] == []
    assert "nowhere.toml" in complaint(invoke("program", "diff", program, "nowhere.toml"))


def test_program_check_lists_all_mistakes(tmp_path: Path) -> None:
    mistaken = PROGRAM.replace("Europe/Warsaw", "Europe/Krakow").replace('"base"\n', '"base"\nunit = "stamps"\ngroup = "weekend"\n')
    (tmp_path / "club.toml").write_text(mistaken)
    paths = ["$.program.time_zone", "$.rules[0].unit", "$.rules[0].group"]
    result = invoke("program", "check", "club.toml")
    assert result.exit_code == 2
    assert re.findall(r"club\.toml: (\$[^:]*):", result.stderr) == paths
    result = invoke("program", "check", "--json", "club.toml")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert (found["ok"], found["version"]) == (False, None)
    assert [mistake["path"] for mistake in found["mistakes"]] == paths
    assert all(list(mistake) == ["path", "message", "hint"] for mistake in found["mistakes"])


@pytest.mark.parametrize(
    ("setting", "value", "named"),
    [
        ("partitions", "many", "TILLSTREAM_PARTITIONS"),
        ("partitions", "0", "TILLSTREAM_PARTITIONS"),
        ("partitons", "8", "did you mean 'partitions'?"),
        ("log_level", "loud", "TILLSTREAM_LOG_LEVEL"),
        ("kafka_transactions", "perhaps", "TILLSTREAM_KAFKA_TRANSACTIONS"),
    ],
)
def test_bad_variable_is_named(setting: str, value: str, named: str) -> None:
    assert named in complaint(invoke("verify", **{setting: value}))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("partitions = 1.5", "partitions"),
        ("partitons = 8", "did you mean 'partitions'?"),
        ("partitions = ", "not TOML"),
        ("kafka = 9092", "kafka"),
    ],
)
def test_bad_settings_file_is_named(text: str, named: str) -> None:
    Path(CONFIG_FILE).write_text(text)
    line = complaint(invoke("verify"))
    assert CONFIG_FILE in line
    assert named in line


def test_settings_file_that_is_no_text_is_named() -> None:
    Path(CONFIG_FILE).write_bytes(b"\xff\xfe")
    assert CONFIG_FILE in complaint(invoke("verify"))


class Place(NamedTuple):
    """Settings of an installation without ClickHouse."""

    kafka: str
    redis: str

    def settings(self, **changed: str) -> dict[str, str]:
        here = {"kafka": self.kafka, "redis": self.redis, "kafka_transactions": "false", "partitions": str(PARTITIONS)}
        return here | {"identity_key": "0123456789abcdef", "program": "club.toml"} | changed


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with ExitStack() as stack:
        kafka, redis = stack.enter_context(Broker()), stack.enter_context(Redis())
        ensure_topics(kafka, PARTITIONS, 1)
        yield Place(kafka, redis)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka waits for a broker that is not there for as long as it is allowed to."""
    monkeypatch.setattr("tillstream.streams.topics.ANSWER_S", 0.5)


@pytest.mark.usefixtures("program", "impatient")
@pytest.mark.parametrize("command", ["worker", "verify", "explain --receipt r", "rebuild --yes", "replay generated --receipts 3"])
def test_kafka_that_is_not_there_is_named_with_its_setting(place: Place, command: str) -> None:
    nowhere = f"{HOST}:{free_port()}"
    line = complaint(invoke(*command.split(), **place.settings(kafka=nowhere)))
    assert line == f"Error: Kafka does not answer at {nowhere}; start it or change the setting kafka"


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize(
    "command",
    [
        *("worker", "worker --role history", "worker --role offers", "worker --role models"),
        *("verify", "explain --receipt r", "rebuild --yes", "offers status", "models status", "vouchers status --series s"),
    ],
)
def test_redis_that_is_not_there_is_named_with_its_setting(place: Place, command: str) -> None:
    nowhere = f"redis://{HOST}:{free_port()}/0"
    line = complaint(invoke(*command.split(), **place.settings(redis=nowhere)))
    assert line == f"Error: Redis does not answer at {nowhere}; start it or change the setting redis"


@pytest.mark.parametrize("role", ["history", "offers", "models"])
def test_worker_that_gives_no_points_needs_no_program(place: Place, role: str) -> None:
    nowhere = f"redis://{HOST}:{free_port()}/0"
    line = complaint(invoke("worker", "--role", role, **place.settings(redis=nowhere, program="not-there.toml")))
    assert line == f"Error: Redis does not answer at {nowhere}; start it or change the setting redis"


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize("command", ["worker --role history", "verify", "explain --receipt r"])
def test_clickhouse_that_is_not_there_is_named_with_its_setting(place: Place, command: str) -> None:
    nowhere = f"http://{HOST}:{free_port()}"
    line = complaint(invoke(*command.split(), **place.settings(clickhouse=nowhere)))
    assert line == f"Error: ClickHouse does not answer at {nowhere}; start it or change the setting clickhouse"


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize(
    ("command", "setting", "value"),
    [
        ("worker", "redis", "nonsense"),
        ("verify", "redis", "nonsense"),
        ("worker", "identity_key", "short"),
        ("rebuild --yes", "identity_key", ""),
        ("worker", "partitions", "3"),
        ("verify", "partitions", "3"),
        ("rebuild --yes", "partitions", "1"),
        ("replay generated", "partitions", "3"),
    ],
)
def test_setting_that_does_not_fit_the_installation_is_named(place: Place, command: str, setting: str, value: str) -> None:
    assert setting in complaint(invoke(*command.split(), **place.settings(**{setting: value})))


def test_verify_of_an_empty_installation_holds(place: Place) -> None:
    result = invoke("verify", "--skip-history", "--json", **place.settings())
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["ok"] is True
    assert (found["postings"], found["clickhouse_accounts"]) == (0, None)


def test_rebuild_knows_how_far_history_is(program: str) -> None:
    records: list[bytes] = []

    class Listening(Simulation):
        def count(self, outcome: Outcome) -> None:
            records.extend(outcome.records)
            super().count(outcome)

    Listening(load_program(program)).run([json.dumps(sale("r1")).encode(), json.dumps(sale("r2")).encode()])
    with Broker() as kafka, Redis() as redis:
        ensure_topics(kafka, PARTITIONS, 1)
        producer = Producer({"bootstrap.servers": kafka, "log_level": 0})
        for record in records:
            producer.produce(LEDGER, record, partition=1)
        assert producer.flush(10) == 0
        history = group_consumer(Config(kafka=kafka), "tillstream-history")
        history.commit(offsets=[TopicPartition(LEDGER, 1, 1)], asynchronous=False)
        history.close()
        settings = Place(kafka, redis).settings()
        result = invoke("rebuild", "--yes", "--json", **settings)
        assert result.exit_code == 0
        assert json.loads(result.stdout)["records"] == 2
        with redis_py.Redis.from_url(redis) as client:
            assert client.hget("{p1}:meta", "history") == b"0"
            assert client.hget("{p0}:meta", "history") is None
        assert invoke("verify", "--skip-history", **settings).exit_code == 0


def test_rebuild_asks_first_and_does_nothing_without_a_yes(place: Place) -> None:
    result = invoke("rebuild", **place.settings())
    assert result.exit_code == 1
    assert "rebuilt" not in result.output


class Demo(NamedTuple):
    """A demo of few receipts, as a process; its temporary files are all in `folder`."""

    process: "subprocess.Popen[str]"
    folder: Path

    def left_behind(self) -> list[str]:
        """Files of the demo, and processes that were started by it: all have its folder in their environment."""
        mark = f"TMPDIR={self.folder}".encode()
        running = []
        for entry in Path("/proc").glob("[0-9]*/environ"):
            try:
                if any(variable.startswith(mark) for variable in entry.read_bytes().split(b"\0")):
                    running.append((entry.parent / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue  # It ended while we looked.
        return [str(path) for path in self.folder.iterdir()] + running


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    folder = tmp_path / "files"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tillstream", "demo", "--receipts", "300", "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    try:
        yield Demo(process, folder)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_demo_gives_points_verifies_and_leaves_nothing(demo: Demo) -> None:
    out, err = demo.process.communicate(timeout=DEMO_S)
    assert demo.process.returncode == 0, err
    figures = json.loads(out)
    assert figures["verify"]["ok"] is True
    assert figures["verify"]["accounts"] == figures["verify"]["redis_accounts"] == figures["verify"]["clickhouse_accounts"] > 0
    assert figures["history"]["sales"] == 300
    sold = figures["at_a_till"]
    assert (sold["outcome"], sold["points"]) == ("accepted", sum(sold["quoted"].values()))
    assert sold["points"] > 0
    visited = figures["on_the_page"]
    assert visited["trigger_ms"] > 0
    assert sold["offers"] == [visited["title"]]
    assert figures["points"] > 0
    assert demo.left_behind() == []


@pytest.mark.slow
@pytest.mark.parametrize("servers", [1, 5], ids=["while servers start", "while workers work"])
def test_demo_interrupted_leaves_nothing(demo: Demo, servers: int) -> None:
    deadline = time.monotonic() + DEMO_S
    while len(list(demo.folder.glob("tillstream-*"))) < servers:
        assert demo.process.poll() is None, demo.process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    demo.process.send_signal(signal.SIGINT)
    _, err = demo.process.communicate(timeout=DEMO_S)
    assert demo.process.returncode in {1, 130}, err
    assert "Traceback" not in err
    assert demo.left_behind() == []
