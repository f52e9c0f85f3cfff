"""The load tests run, and what they print is well-formed. Tiny loads: nothing here is a measurement."""

import asyncio
import json
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any, get_args, get_type_hints
from xml.etree import ElementTree

import msgspec
import pytest

from loadtest.contender import Clock, Result
from loadtest.kernel import Bench
from loadtest.lane import Step
from loadtest.lane_picture import picture
from loadtest.lane_place import merged
from loadtest.lane_tills import FIRST_NAME, Phase, Tills
from loadtest.load import FIFTY_RULES, expected_points, fifty_rules, prepare
from loadtest.member_kernel import MemberBench
from loadtest.report import Goal, Report
from tillstream.gateway.answers import Balance, Identified
from tillstream.schemas import programs as program_schema
from tillstream.schemas.events import SaleEvent, decode
from tillstream.schemas.program_offers import Offer

ROOT = Path(__file__).resolve().parent.parent
CONTENDERS = {"bare", "tillstream", "fifty", "quix", "faust"}


def loadtest(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "loadtest", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )


def report_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON object that a test printed; 0 and 1 are both fine: this machine's speed is not what is tested."""
    assert done.returncode in (0, 1), done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert {"test", "machine", "asked", "figures", "goals", "ok", "notes"} <= report.keys()
    assert done.returncode == (0 if report["ok"] else 1)
    assert report["ok"] == all(goal["ok"] for goal in report["goals"])
    assert report["machine"]["packages"]["tillstream"]
    return report


@pytest.mark.slow
def test_pipeline_tiny_load_compares_all_contenders(tmp_path: Path) -> None:
    report = report_of(loadtest("pipeline", "--receipts", "300", "--runs", "1", "--json", "--out", str(tmp_path / "out.json")))
    assert report["figures"].keys() == CONTENDERS
    for figures in report["figures"].values():
        assert figures["median_receipts_per_s"] > 0
        assert figures["rss_peak_mib"] > 0
    assert len(report["goals"]) == 4
    assert json.loads((tmp_path / "out.json").read_text()) == report


@pytest.mark.slow
def test_transport_tiny_load_compares_all_drivers() -> None:
    report = report_of(loadtest("transport", "--receipts", "300", "--runs", "1", "--json"))
    assert report["figures"].keys() == {"librdkafka", "aiokafkabatches", "aiokafka"}


def test_kernel_tiny_load_gives_rates_and_ratios() -> None:
    report = report_of(loadtest("kernel", "--receipts", "50", "--runs", "1", "--json"))
    assert {"kernel", "numpy", "oracle", "columns.gather", "by_receipt", "Poster.post"} <= report["figures"].keys()
    assert {"fifty: look + kernel", "fifty: look + kernel + text", "fifty: Poster.post"} <= report["figures"].keys()
    assert report["figures"]["kernel"]["kernel_is_times_as_fast"] == 1.0
    assert len(report["goals"]) == 2


def test_bad_usage_ends_with_status_2_and_no_traceback() -> None:
    done = loadtest("pipeline", "--receipts", "0")
    assert done.returncode == 2
    assert "--receipts" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_shows_an_example() -> None:
    assert "Example: python -m loadtest pipeline" in loadtest("--help").stdout


def test_kernel_numpy_and_oracle_agree_on_generated_receipts() -> None:
    Bench(prepare(60)).compare()


def test_kernel_and_oracle_agree_on_first_purchases_by_fifty_rules() -> None:
    MemberBench(prepare(60)).compare(60)


def test_fifty_rules_use_every_key_form_trigger_and_stacking() -> None:
    tree = tomllib.loads(FIFTY_RULES.read_text(encoding="utf-8"))
    used = keys_in(tree)
    kinds = [kind for kind in [program_schema.Program, *structs_in(program_schema.Program)] if kind.__module__ != Offer.__module__]
    wanted = {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)} - {"offers", "offer_choice"}
    assert wanted <= used
    rules = fifty_rules().program.rules
    assert len(rules) == 50
    assert {program_schema.award_form(rule.award) for rule in rules} == set(program_schema.AWARD_FORMS.values())
    assert {rule.on.partition(".")[0] for rule in rules} == {
        "receipt", "enrolled", "birthday", "tier_up", "balance", "period_end", "activity",
    }  # fmt: skip
    assert {rule.rounding for rule in rules} == {"floor", "half_up", "ceil"}
    assert {group["stacking"] for group in tree["groups"].values()} == {"all", "best", "first"}
    assert {level["downgrade"] for level in tree["tiers"]["levels"] if "downgrade" in level} == {"to_level", "one_down", "never"}


def keys_in(tree: Any) -> set[str]:
    """All keys of all tables."""
    if isinstance(tree, dict):
        return set(tree).union(*map(keys_in, tree.values()))
    return set().union(*map(keys_in, tree)) if isinstance(tree, list) else set()


def structs_in(kind: Any) -> set[type[msgspec.Struct]]:
    """The types of all tables that stand in a table of type `kind`."""
    inside: set[type[msgspec.Struct]] = set()
    for type_ in get_type_hints(kind).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else get_args(kind):
        if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
            inside.add(type_)
        inside |= structs_in(type_)
    return inside


def test_load_most_receipts_earn_by_several_rules() -> None:
    bench = Bench(prepare(200))
    rules = [len(given) for given in bench.awards[0].by_receipt()]
    assert sorted(rules)[len(rules) // 4] >= 4
    assert len(bench.poster.compiled.rules) == 10


def test_load_is_routed_and_of_the_size_promised() -> None:
    records = prepare(100)
    events = [decode(record.value) for record in records]
    assert all(isinstance(event, SaleEvent) and len(event.data.lines) == 12 for event in events)
    assert [event.accountid for event in events] == [record.account for record in records]
    assert 1_300 <= sum(len(record.value) for record in records) / 100 <= 1_600
    assert prepare(150)[:100] == records
    assert expected_points(records) > 0


def test_clock_counts_until_all_is_done() -> None:
    clock = Clock(5)
    clock.start()
    assert [clock.add(2), clock.add(3), clock.add(1)] == [False, True, False]
    assert clock.result is not None
    assert clock.result.receipts == 5


def test_report_missed_goal_is_not_ok() -> None:
    assert not Report("t", {}, {}, [Goal("g", 3.0, 2.9)], [], []).ok
    assert Report("t", {}, {}, [Goal("g", 3.0, 3.0)], [], []).ok
    assert Report("t", {}, {}, [Goal("g", 3.0, 2.9, at_most=True)], [], []).ok
    assert not Report("t", {}, {}, [Goal("g", 3.0, 3.1, at_most=True)], [], []).ok
    assert Result(10, 2.0, 1.0, 0.0, 1.0).rate == 5.0


@pytest.mark.slow
def test_lane_tiny_load_gives_percentiles_costs_and_a_picture(tmp_path: Path) -> None:
    rates = ("--receipts", "20", "--identify", "20", "--quote", "20")
    picture_path = tmp_path / "lane.svg"
    report = report_of(loadtest("lane", "--runs", "1", "--seconds", "2", *rates, "--no-curve", "--json"))
    assert report["figures"]["latency_ms"].keys() == {"identify", "quote", "receipt"}
    assert report["figures"]["failed"] == 0
    assert report["figures"]["requests"] > 50
    assert all(goal["at_most"] for goal in report["goals"][:3])
    assert report["figures"]["cpu_us_per_request"]["receipt"]["worker"] > 0
    assert loadtest("lane", "--no-curve", "--picture", str(picture_path)).returncode == 2


def test_lane_requests_come_when_they_are_due_and_waiting_counts() -> None:
    tills = Tills(SlowClient(), seed=1)  # type: ignore[arg-type]
    due = tills.prepare(Phase({"identify": 200.0, "quote": 0.0}, 0.5))
    assert [request.at for request in due] == sorted(request.at for request in due)
    assert 60 < len(due) < 150
    assert all(0 <= request.at < 0.5 and request.kind == "identify" for request in due)
    told = asyncio.run(tills.run(due, time.monotonic()))
    latencies = merged([told, told], {}, 1.0)
    assert latencies.latencies["identify"].total_count == 2 * len(due)
    # One at a time, 20 ms each: the last of a hundred has waited for all before it.
    assert latencies.ms("identify", 100) > len(due) * 20 - 500 > latencies.ms("identify", 1) * 10
    assert told.failed == {}


class SlowClient:
    """Answers one request at a time, 20 ms each."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()

    async def identify(self, scheme: str, value: str) -> Identified:
        async with self.turn:
            await asyncio.sleep(0.02)
        return Identified(FIRST_NAME, None, "PLN", [Balance("points", 1, 1, None, 0, 0, [])])


def test_lane_picture_has_every_step_of_every_kind() -> None:
    kinds = ("identify", "quote", "receipt")
    steps = [Step(per_s, dict.fromkeys(kinds, 1.0), dict.fromkeys(kinds, per_s / 10), 1.0) for per_s in (100.0, 200.0, 9_000.0)]
    drawn = ElementTree.fromstring(picture(steps))
    assert len(drawn.findall("{*}circle")) == 9
    assert {text.text for text in drawn.findall("{*}text")} >= {"100", "200", "9,000", "quote p99", "Eagle Eye, average"}
    heights = [float(circle.attrib["cy"]) for circle in drawn.findall("{*}circle")[:3]]
    assert heights == sorted(heights, reverse=True)
    assert [step.holds for step in steps] == [True, False, False]
    assert [step.queues for step in steps] == [False, False, True]


def test_replies_come_by_either_way() -> None:
    report = report_of(loadtest("replies", "--seconds", "1", "--rate", "50", "--runs", "1", "--json"))
    for way in ("channel", "topic"):
        figures = report["figures"][way]
        assert figures["missed"] == 0
        assert 0 < figures["p50_ms"] <= figures["p99_ms"]
        assert figures["cpu_us_per_reply"].keys() == {"worker", "gateway", "redis", "broker"}


def test_replies_by_a_broker_that_is_not_there_say_so_in_one_line() -> None:
    done = loadtest("replies", "--seconds", "1", "--runs", "1", "--kafka", "127.0.0.1:1")
    assert done.returncode == 1
    assert "--kafka: the broker at 127.0.0.1:1 does not create the topic replies" in done.stderr
    assert "Traceback" not in done.stderr
