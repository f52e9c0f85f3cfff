"""The programs of the folder programs/: no mistake, no warning, short enough to be read, and each gives what was computed by hand."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.cases import Case, event_of
from tests.engine import engine_outcome
from tests.oracle import outcome
from tests.test_cases import check
from tillstream.schemas.program_advice import advice
from tillstream.schemas.program_file import parse_program

FOLDER = Path(__file__).parent.parent / "programs"
FILES = sorted(FOLDER.glob("*.toml"))


def history(
    name: str, why: str, events: str, balance: dict[str, int], pending: dict[str, int] | None = None, currency: str = "PLN"
) -> Case:
    """A case on a program of the folder."""
    lines = events.strip().splitlines()
    told = [event_of(f"{line} currency={currency}", f"e{number}") for number, line in enumerate(lines, 1)]
    return Case(name, why, [(FOLDER / f"{name}.toml").read_text()], told, balance, pending or {})


HISTORIES = [
    history(
        "grocery-club",
        """Welcome 100. S1, a Saturday: 50 + twice 40 for the cheese = 130. S2: 250 + 100 for the basket + 20 for 40 litres; the milk
        comes back, 180.00 are left: 20. Birthday 200. S3: 3,000 + 100, and gold. S4: 100 + 50. S5, a Saturday, 10.00 of it paid with
        points: 50 + twice 50 (gold would be 25) - 1,000. Two reviews: 20.
        100 + 130 + 20 + 200 + 3,100 + 150 - 850 + 20 = 2,870.""",
        """
enrol m1 2026-01-10 birth=1990-03-20
sale S1 m1 2026-02-07 cheese 40.00, bread 10.00
sale S2 m1 2026-02-10 milk 250.00, diesel x40 180.00
return R1 S2 2026-02-12 1 x1 250.00
tick 2026-03-20
sale S3 m1 2026-03-23 milk 3000.00
sale S4 m1 2026-03-24 milk 100.00
sale S5 m1 2026-03-28 cheese 60.00 | points 10.00 1000
activity review m1 2026-03-29
activity review m1 2026-03-30
""",
        balance={"m1": 2870},
    ),
    history(
        "optics-family",
        """S1: 5 % of 1,000.00 = 5,000, usable from 4 March. S2, the second frame in 36 days: 1,000 + 1,000, and all of it comes back while
        it is pending. Eye tests: 500 + 500 in the family, the third is over the year's cap. S3: 5 % of the 70.00 that points did not pay
        = 350, less 3,000. S4: 1,500 + twice 1,500 = 4,500, still pending.
        5,000 + 1,000 + 350 - 3,000 = 3,350.""",
        """
enrol m1 2026-01-10 household=fam segments=families
enrol m2 2026-01-11 household=fam segments=families
sale S1 m1 2026-02-02 optics/frames/adult 400.00, optics/lenses 600.00
tick 2026-03-04
sale S2 m2 2026-03-10 optics/frames/kids 200.00
return R1 S2 2026-03-12 1 x1 200.00
activity eye_test m2 2026-03-20
activity eye_test m1 2026-04-02
sale S3 m1 2026-04-10 optics/lenses/solar 100.00 | points 30.00 3000
activity eye_test m1 2026-05-02
sale S4 m2 2026-08-20 optics/frames/kids 300.00
tick 2026-08-25
""",
        balance={"fam": 3350},
        pending={"fam": 4500},
    ),
    history(
        "tyres-b2b",
        """Welcome 100. S1: 40 tyres = 400. S2: 1,000 + 500 for 6,000.00 before the season. The shop takes 1,500. Training 250, once a
        quarter; the year's points are 2,250: silver. S3: 300 + 300 (winter beats silver's 60); ten come back, 20 are left: 200 + 200.
        S4: 100 + 20 for silver, pending. A private buyer gets nothing.
        100 + 400 + 1,500 - 1,500 + 250 + 400 = 1,150.""",
        """
enrol w1 2026-06-01 kind=retailer
sale S1 w1 2026-07-06 tyres/summer x40 2400.00
sale S2 w1 2026-08-03 tyres/winter x100 6000.00
tick 2026-09-01
redeem D1 w1 2026-09-02 1500
activity training w1 2026-09-10
activity training w1 2026-09-20
sale S3 w1 2026-10-05 tyres/winter x30 1800.00
sale S5 c1 2026-10-06 tyres/winter x4 400.00
return R1 S3 2026-10-12 1 x10 600.00
sale S4 w1 2026-10-19 tyres/summer x10 500.00
tick 2026-10-20
""",
        balance={"w1": 1150},
        pending={"w1": 120},
        currency="EUR",
    ),
    history(
        "fmcg-distributor",
        """April's dairy: 6,000 + 5,000 - 1,000 that came back in May = 10,000.00: 600. Three shelves seen: 60. The quarter: 600 bottles:
        400; six orders: 150. New products: 50, once. The year: 11,420.00 = 1,142.
        600 + 60 + 400 + 150 + 50 + 1,142 = 2,402.""",
        """
enrol r1 2026-03-01 kind=retailer
sale S1 r1 2026-04-03 cheese 6000.00
activity planogram r1 2026-04-15 x3 verified=true
activity planogram r1 2026-04-16 x2 verified=false
sale S2 r1 2026-04-20 milk 5000.00, drinks/juice x600 1200.00
return R1 S2 2026-05-05 1 1000.00
tick 2026-05-11
sale S3 r1 2026-06-02 new/snacks 100.00
sale S4 r1 2026-06-09 new/snacks 100.00
sale S5 r1 2026-06-10 milk 10.00
sale S6 r1 2026-06-11 milk 10.00
tick 2026-07-11
tick 2027-02-01
""",
        balance={"r1": 2402},
    ),
    history(
        "coffee-stamp-card",
        """S1: 2 stamps. S2, a quiet hour: 2 + 2; one of the two coffees comes back: 2 are left. S3: 5, which makes nine: a coffee. It is
        drunk. The birthday's coffee, and a stamp for the coffee that was paid for beside it.""",
        """
enrol m1 2026-01-01 birth=1990-06-10
sale S1 m1 2026-03-02T09:00 coffee x2 24.00
sale S2 m1 2026-03-03T14:30 coffee x2 24.00
return R1 S2 2026-03-03T15:00 1 x1 12.00
sale S3 m1 2026-03-05T09:00 coffee x5 60.00
redeem D1 m1 2026-03-06 1 unit=coffees
tick 2026-06-10
sale S4 m1 2026-06-11T09:00 coffee 12.00, drinks/coffee/free 0.00
""",
        balance={"m1/coffees": 1, "m1/stamps": 1},
    ),
]


def by_name(case: Case) -> str:
    return case.name


def of_households(case: Case) -> bool:
    return any("household_id" in event["data"] for event in case.events)


def test_every_program_of_the_folder_has_a_history() -> None:
    assert [path.stem for path in FILES] == sorted(case.name for case in HISTORIES)


def test_reference_leads_to_every_program_of_the_folder() -> None:
    page = (FOLDER.parent / "docs/program.md").read_text()
    assert [path.name for path in FILES if f"](../programs/{path.name})" not in page] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_program_has_no_mistake_no_warning_and_can_be_read_in_one_go(path: Path) -> None:
    program = parse_program(path.read_text()).program
    assert advice(program) == []
    assert program.program.id == path.stem
    assert 40 <= len(path.read_text().splitlines()) <= 120


@pytest.mark.parametrize("case", HISTORIES, ids=by_name)
def test_history_comes_to_what_was_computed_by_hand(case: Case) -> None:
    check(case, engine_outcome(case.programs, case.events))


@pytest.mark.parametrize("case", [case for case in HISTORIES if not of_households(case)], ids=by_name)
def test_history_by_the_oracle_comes_to_the_same(case: Case) -> None:
    """The oracle knows no accounts that several members share."""
    check(case, outcome(case.parsed, case.events))


@pytest.mark.parametrize("case", HISTORIES, ids=by_name)
@pytest.mark.parametrize("seed", range(3))
def test_history_shuffled_and_with_a_repeat_comes_to_the_same(case: Case, seed: int) -> None:
    random, events = Random(seed), list(case.events)
    random.shuffle(events)
    events.insert(random.randint(0, len(events)), random.choice(events))
    check(replace(case, duplicates=1), engine_outcome(case.programs, events))


@pytest.mark.parametrize(("tick", "points"), [("2026-05-10", 0), ("2026-05-11", 600)])
def test_target_of_april_is_paid_on_the_11th_of_may_and_not_before(tick: str, points: int) -> None:
    april = history("fmcg-distributor", "", f"sale S1 r1 2026-04-30 cheese 10000.00\ntick {tick}", {"r1": points} if points else {})
    check(april, engine_outcome(april.programs, april.events))


@pytest.mark.parametrize(("day", "points"), [("2026-03-03", 0), ("2026-03-04", 5000)])
def test_points_of_glasses_are_usable_after_thirty_days(day: str, points: int) -> None:
    glasses = history("optics-family", "", f"sale S1 m1 2026-02-02 optics/frames/adult 1000.00\ntick {day}", {"m1": points})
    there = engine_outcome(glasses.programs, glasses.events).accounts["m1"]["points"]
    assert (there["balance"], there["pending"]) == (points, 5000 - points)
