"""Segments: by written rules, and live: from receipts over ClickHouse to a rule that gives points to those who are in them."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from tests.pipeline_harness import PARTITIONS, Event, Stage, stage, until
from tillstream.audience.people import Crowd, Person
from tillstream.cli import main
from tillstream.embedded.clickhouse import ClickHouse
from tillstream.errors import UsageError
from tillstream.installation import WorkerProcess
from tillstream.schemas.ledger import Posting, decode_record
from tillstream.segmenting.command import Segmented, changes, segment_members
from tillstream.segmenting.computing import Visited, activity, by_demography, favourites
from tillstream.segmenting.definition import Activity, Demography, Taste, read_segmentations
from tillstream.sinks.clickhouse import connect, migrate
from tillstream.streams.topics import LEDGER

NOW = datetime.now(UTC)

PROGRAM = """
[program]
id = "segments"
currency = "PLN"
time_zone = "Europe/Warsaw"

[units.points]

[[rules]]
id = "active"
member = { segment = ["rfm-active"] }
award = { fixed = 10 }

[[rules]]
id = "fish"
member = { segment = ["taste-fish"] }
award = { fixed = 100 }
"""

SEGMENTS = """
[rfm]
active_days = 60

[taste]
share_min = 0.5

[who]
attributes = ["age"]
"""


@pytest.mark.parametrize(
    ("visited", "names"),
    [
        (Visited(29, 29, [0]), ["new"]),
        (Visited(30, 30, [0]), ["active", "irregular"]),
        (Visited(400, 59, [0, 10, 20, 30]), ["active", "regular"]),
        (Visited(400, 60, [0, 10, 20, 30]), ["passive", "regular"]),
        (Visited(400, 179, [0, 10, 20]), ["passive", "irregular"]),
        (Visited(400, 180, []), ["lost"]),
        (Visited(400, 5, [0, 1, 2, 60]), ["active", "irregular"]),
        (Visited(400, 5, [0, 6, 20, 27, 34]), ["active", "regular"]),
    ],
)
def test_activity_follows_the_written_rule(visited: Visited, names: list[str]) -> None:
    assert activity(Activity(), visited) == names


def test_taste_is_of_the_largest_categories_that_have_their_share() -> None:
    spending = [("fish", 40), ("dairy", 40), ("", 15), ("bread", 5)]
    assert favourites(Taste(), spending) == ["taste-dairy"]
    assert favourites(Taste(top=5), spending) == ["taste-dairy", "taste-fish"]
    assert favourites(Taste(share_min=0.5), spending) == []


def test_demography_takes_values_and_no_lists() -> None:
    profile = {"attributes": {"age": "45-54", "kids": 2, "segments": ["x"], "home": "Own Home"}}
    assert by_demography(Demography(attributes=["age", "kids", "segments", "home", "none"]), profile) == [
        *("who-age-45-54", "who-kids-2", "who-home-own-home"),
    ]


def test_changes_are_of_members_whose_segments_differ() -> None:
    crowd = Crowd()
    for name, before in (("same", ["a", "b"]), ("more", ["a"]), ("none", []), ("left", ["a"])):
        crowd.add(Person(name, name, {}, {}, {"rfm": {"segments": before}} if before else {}))
    now = Segmented("rfm", "v2", {"same": ["a", "b"], "more": ["a", "b"], "none": [], "left": []}, 0)
    told = {event["data"]["member_id"]: event["data"]["segments"] for event in changes(now, crowd, NOW.date(), NOW, everybody=False)}
    assert told == {"more": ["a", "b"], "left": []}
    again = [event["data"]["member_id"] for event in changes(now, crowd, NOW.date(), NOW, everybody=True)]
    assert again == ["same", "more", "left"]


def test_changes_say_once_that_who_others_were_merged_into_is_in_none() -> None:
    crowd = Crowd()
    crowd.add(Person("root", "root", {}, {}, {}, joined=True))
    crowd.add(Person("said", "said", {}, {}, {"rfm": {"segments": []}}, joined=True))
    now = Segmented("rfm", "v2", {"root": [], "said": []}, 0)
    told = {event["data"]["member_id"]: event["data"]["segments"] for event in changes(now, crowd, NOW.date(), NOW, everybody=False)}
    assert told == {"root": []}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "no segmentation in it"),
        ("[rfn]\n", "unknown field `rfn`"),
        ("[rfm]\nactive_days = 0\n", "rfm.active_days: Expected `int` >= 1"),
        ("[rfm]\nactive_days = 200\n", "rfm.lost_days: 180 is not above active_days, 200"),
        ("[who]\nattributes = []\n", "who.attributes: Expected `array` of length >= 1"),
        ("[", "not TOML"),
    ],
)
def test_file_with_a_mistake_names_the_key(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "segments.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        read_segmentations(path)
    assert named in str(refused.value)
    assert CliRunner().invoke(main, ["segments", str(path)]).exit_code == 2


def test_version_is_of_what_a_segmentation_says(tmp_path: Path) -> None:
    path = tmp_path / "segments.toml"
    versions = []
    for text in ("[rfm]\n", "# as by default\n[rfm]\nnew_days = 30\n[taste]\n", "[rfm]\nnew_days = 31\n"):
        path.write_text(text)
        versions.append(read_segmentations(path).version("rfm"))
    assert versions[0] == versions[1] != versions[2]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("segments")) as servers:
        (servers.folder / "program.toml").write_text(PROGRAM)
        clickhouse = ClickHouse(servers.folder / "clickhouse")
        try:
            clickhouse.start()
            migrate(connect(clickhouse.address))
            servers.config = msgspec.structs.replace(servers.config, clickhouse=clickhouse.address)
            yield servers
        finally:
            clickhouse.stop()


def enrol(member: str, *, profiling: bool) -> Event:
    head = {"specversion": "1.0", "id": f"e-{member}", "source": "crm", "time": f"{NOW - timedelta(days=400):%FT%TZ}"}
    data = {"member_id": member, "attributes": {"age": "35-44"}, "consents": {"profiling": profiling}}
    return {**head, "type": "member.enrolled", "data": data}


def sale(name: str, member: str, moment: datetime) -> Event:
    line = {"line_no": 1, "sku": "cod", "category": "fish/cod", "quantity_milli": 1000, "amount": 1000}
    data: dict[str, Any] = {
        **{"receipt_id": name, "store_id": "1", "register_id": "1", "business_date": f"{moment:%F}", "currency": "PLN"},
        **{"issued_at": f"{moment:%FT%TZ}", "member": {"scheme": "member", "value": member}},
        **{"lines": [line], "tenders": [{"type": "card", "amount": 1000}]},
    }
    head = {"specversion": "1.0", "id": name, "source": "pos", "time": data["issued_at"]}
    return {**head, "type": "receipt.sale", "data": data}


def given(here: Stage) -> dict[str, int]:
    """Points that each receipt's posting gave."""
    records = [decode_record(message.value() or b"") for message in here.records(LEDGER, PARTITIONS)]
    sales = [record for record in records if isinstance(record, Posting) and record.kind == "sale"]
    return {record.receipt_id or "": sum(sum(group.points) for group in record.entries) for record in sales}


@pytest.mark.slow
def test_published_segments_earn_from_their_time_on_and_no_sooner(here: Stage) -> None:
    path = here.folder / "segments.toml"
    path.write_text(SEGMENTS)

    def run(**how: bool) -> dict[str, Any]:
        return asyncio.run(segment_members(here.config, path, None, **{"publishing": True, "everybody": False, **how}))

    old = [sale(f"{member}-{ago}", member, NOW - timedelta(days=ago)) for member in ("m1", "m2") for ago in (100, 70, 40, 10)]
    with here.worker() as worker:
        history = WorkerProcess(here.config, "history", here.folder / "history")
        history.start()
        try:
            here.send([enrol("m1", profiling=True), enrol("m2", profiling=False), *old])
            here.settle(worker)
            client = connect(here.config.clickhouse)
            until(lambda: client.query("SELECT count() FROM receipts").result_rows[0][0] == len(old), "history written", 60, history)
        finally:
            history.stop()
        counted = run(publishing=False)
        assert counted["published"] == 0
        assert [each["segments"] for each in counted["segmentations"]] == [
            {"rfm-active": 1, "rfm-regular": 1}, {"taste-fish": 1}, {"who-age-35-44": 2},
        ]  # fmt: skip
        assert counted["segmentations"][0]["no_consent"] == 1
        assert run()["published"] == 4
        here.settle(worker)
        assert run()["published"] == 0
        after, before = datetime.now(UTC) + timedelta(seconds=2), NOW - timedelta(days=1)
        here.send([sale("new-1", "m1", after), sale("new-2", "m2", after), sale("late-1", "m1", before)])
        here.settle(worker)
    points = given(here)
    assert points["new-1"] == 110
    assert {name for name, got in points.items() if got} == {"new-1"}
