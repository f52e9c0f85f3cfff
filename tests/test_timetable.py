"""Which program judges what: versions by date, programs side by side, and batches that go over a change of program."""

from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import envelope, postings, random_history, routed
from tests.test_program_file import HEAD, rule
from tillstream.kernels.posters import POSTERS_MAX, Posters
from tillstream.kernels.posting import Poster
from tillstream.kernels.snapshot import Snapshot
from tillstream.kernels.timetable import NOTHING, Timetable, merged
from tillstream.schemas.ledger import Posting
from tillstream.schemas.program_file import InvalidProgram, Versioned, parse_program

ZONE = ZoneInfo("Europe/Warsaw")


def program(points: int = 1, begins: str | None = None, name: str = "club", more: str = "", rules: str | None = None) -> Versioned:
    """A program of one rule per 1.00, or of `rules`."""
    head = HEAD.replace('"fresh-club"', f'"{name}"' + (f"\neffective_from = {begins}" if begins else ""))
    rules = rule(f"{{ points = {points}, per_amount = 100 }}", name=f"{name}-base") if rules is None else rules
    return parse_program(head + more + rules)


def sale(number: int, moment: datetime, amount: int = 1000) -> dict[str, Any]:
    line = {"line_no": 1, "sku": "1", "quantity_milli": 1000, "amount": amount}
    data = {"receipt_id": f"r{number}", "store_id": "S", "register_id": "1", "business_date": moment.date().isoformat(), "currency": "PLN",
            "issued_at": moment.isoformat(), "member": {"scheme": "member", "value": "m1"}, "lines": [line]}  # fmt: skip
    return envelope("receipt.sale", f"e{number}", "till", data)


def earned(posting: Posting) -> int:
    return sum(sum(group.points) for group in posting.entries)


def test_version_in_force_is_the_latest_that_has_begun() -> None:
    always, spring, autumn = program(1), program(2, "2026-03-20"), program(3, "2026-09-01")
    timetable = Timetable([autumn, always, spring])
    days = {"1999-01-01": always, "2026-03-19": always, "2026-03-20": spring, "2026-08-31": spring, "2030-01-01": autumn}
    assert all(timetable.effective(date.fromisoformat(day)) is wanted for day, wanted in days.items())
    assert timetable.constant is None
    assert Timetable([always]).constant is always


def test_before_the_first_version_nothing_is_earned_but_tenders_are_read() -> None:
    timetable = Timetable([program(1, "2026-03-20")])
    before = timetable.effective(date(2026, 3, 19))
    assert (before.version, before.program.rules, list(before.program.units)) == (NOTHING, [], ["points"])
    outcomes = Posters(timetable).post(routed([sale(1, datetime(2026, 3, 19, 12, tzinfo=ZONE))]), Snapshot())
    assert [(posting.program_version, earned(posting)) for posting in postings(outcomes)] == [(NOTHING, 0)]


def test_of_two_versions_with_one_date_the_one_published_last_holds() -> None:
    first, second = program(1, "2026-03-20"), program(2, "2026-03-20")
    day = date(2026, 3, 20)
    assert Timetable([first, second]).effective(day) is second
    assert Timetable([second, first]).effective(day) is first
    assert Timetable([first, second, first]).effective(day) is first


def test_programs_side_by_side_are_judged_by_priority_then_program_then_place() -> None:
    late = rule(name="a-late", more="priority = 200") + rule(name="a-first")
    other = rule(name="b-first", more='priority = 50\ngroup = "g"') + rule(name="b-second")
    club = program(name="a", rules=late, more='[groups.g]\nstacking = "best"\n')
    easter = program(name="b", rules=other, more='[groups.g]\nstacking = "first"\n[units.eggs]\n')
    whole = Timetable([easter, club]).effective(date(2026, 1, 1))
    assert whole.version == f"{club.version}+{easter.version}"
    assert list(whole.program.units) == ["points", "eggs"]
    assert [found.id for found in Poster(whole).compiled.rules] == ["b-first", "a-first", "b-second", "a-late"]
    assert {name: group.stacking for name, group in whole.program.groups.items()} == {"a/g": "best", "b/g": "first"}
    assert whole.program.rules[2].group == "b/g"
    assert merged([club]) is club


def test_campaign_program_begins_beside_another_and_both_give() -> None:
    club, easter = program(1, name="club"), program(5, "2026-04-01", "easter")
    posters = Posters(Timetable([club, easter]))
    days = (date(2026, 3, 31), date(2026, 4, 1))
    batch = routed(sale(n, datetime(day.year, day.month, day.day, 10, tzinfo=ZONE)) for n, day in enumerate(days))
    found = postings(posters.post(batch, Snapshot()))
    assert [earned(posting) for posting in found] == [10, 60]
    assert [posting.program_version for posting in found] == [club.version, f"{club.version}+{easter.version}"]
    assert [group.rule_id for group in found[1].entries] == ["club-base", "easter-base"]


@pytest.mark.parametrize(
    ("others", "path", "words"),
    [
        ([program(name="d", rules=rule(name="club-base"))], "d: $.rules[0].id", "rule of program 'club'"),
        ([program(name="d", more="[units.stars]\n"), program(name="e", more="[units.stars.expires]\nafter_days = 3\n")],
         "e: $.units.stars", "program 'd' declares"),
        ([parse_program(HEAD.replace("PLN", "EUR").replace("fresh-club", "d") + rule())], "d: $.program.currency", "PLN"),
        ([parse_program(HEAD.replace("Warsaw", "Paris").replace("fresh-club", "d") + rule())], "d: $.program.time_zone", "Europe/Warsaw"),
        ([parse_program(HEAD.replace("fresh-club", "club").replace("units.points", "units.stars").replace(
            "time_zone", "effective_from = 2027-01-01\ntime_zone") + rule(more='unit = "stars"'))],
         "club: $.units.points", "not declared any more"),
    ],
)  # fmt: skip
def test_programs_that_do_not_agree_are_refused_with_the_place(others: list[Versioned], path: str, words: str) -> None:
    with pytest.raises(InvalidProgram) as caught:
        Timetable([program(), *others])
    assert [mistake for mistake in caught.value.mistakes if mistake.path == path and words in str(mistake)], caught.value


def test_two_programs_with_different_tiers_are_refused() -> None:
    tiers = '[tiers]\nwindow = {{ months = 12, count = "spend" }}\nlevels = [{{ id = "{}", from = 0 }}]\n'
    green, blue, same = (program(name=name, more=tiers.format(level)) for name, level in (("a", "green"), ("b", "blue"), ("c", "green")))
    assert Timetable([green, same]).effective(date(2026, 1, 1)).program.tiers == green.program.tiers
    with pytest.raises(InvalidProgram, match=r"b: \$\.tiers"):
        Timetable([green, blue])


def test_version_of_a_posting_is_found_again_also_when_it_was_replaced() -> None:
    """What a return judges again, it judges by the sale's version."""
    old, new, easter = program(1, "2026-03-20"), program(2, "2026-03-20"), program(5, "2026-04-01", "easter")
    before, after = Timetable([old, easter]), Timetable([old, easter, new])
    for day in (date(2026, 1, 1), date(2026, 3, 20), date(2026, 4, 1)):
        version = before.effective(day).version
        assert after.named(version) == before.effective(day)
    with pytest.raises(KeyError):
        before.named(new.version)


def test_rules_of_the_same_id_may_follow_one_another() -> None:
    """A rule may move to another program, if the two are never in force together."""
    old = program(1, name="a", rules=rule(name="shared"))
    Timetable([old, program(1, "2026-03-20", "a", rules=rule(name="other")), program(1, "2026-03-20", "b", rules=rule(name="shared"))])


@given(
    st.lists(st.datetimes(datetime(2026, 3, 27), datetime(2026, 4, 2), timezones=st.just(UTC)), min_size=1, max_size=12),
    st.lists(st.dates(date(2026, 3, 27), date(2026, 4, 2)), max_size=4, unique=True),
    st.integers(1, 5),
)
def test_every_sale_is_judged_by_the_version_of_its_local_date_in_any_batching(
    moments: list[datetime], changes: list[date], size: int
) -> None:
    """The oracle looks at nothing but the list of versions: the last whose date has come."""
    versions = [program(1), *(program(number + 2, day.isoformat()) for number, day in enumerate(sorted(changes)))]
    posters, snapshot = Posters(Timetable(versions)), Snapshot()
    batch = routed(sale(number, moment) for number, moment in enumerate(moments))
    found = [p for first in range(0, len(batch), size) for p in postings(posters.post(batch[first : first + size], snapshot))]
    for posting, moment in zip(found, moments, strict=True):
        day = moment.astimezone(ZONE).date()
        place = sum(change <= day for change in changes)
        assert (posting.program_version, earned(posting)) == (versions[place].version, 10 * (place + 1))


def test_return_after_a_change_takes_back_what_the_old_version_gave_under_its_version() -> None:
    old, new = program(3), program(1, "2026-03-20")
    bought = sale(1, datetime(2026, 3, 19, 12, tzinfo=ZONE))
    back = sale(2, datetime(2026, 3, 21, 12, tzinfo=ZONE))
    back |= {"type": "receipt.return"}
    back["data"] |= {"original_receipt_id": "r1", "lines": [{"line_no": 1, "original_line_no": 1, "quantity_milli": 1000, "amount": 1000}]}
    snapshot = Snapshot()
    found = postings(Posters(Timetable([old, new])).post(routed([bought, back]), snapshot))
    assert [(posting.program_version, earned(posting)) for posting in found] == [(old.version, 30), (old.version, -30)]


def test_one_program_without_dates_gives_the_bytes_of_its_poster() -> None:
    random = Random(7)
    history = random_history(random, ticks=True)
    random.shuffle(history)
    only = program(rules=rule("{ points = 1, per_amount = 100 }"))
    batch = routed(history)
    found = Posters(Timetable([only])).post(batch, Snapshot())
    wanted = Poster(only).post(batch, Snapshot())
    assert [list(outcome.records) for outcome in found] == [list(outcome.records) for outcome in wanted]


def test_timetable_exchanged_between_batches_judges_from_then_on_by_the_new_one() -> None:
    posters, snapshot = Posters(Timetable([program(1, "2026-06-01")])), Snapshot()
    noon = datetime(2026, 3, 19, 12, tzinfo=ZONE)
    posters.post(routed([sale(1, noon)]), snapshot)
    posters.exchange(Timetable([program(1, "2026-06-01", more="[units.eggs]\n"), program(2, "2026-03-01")]))
    assert [earned(p) for p in postings(posters.post(routed([sale(2, noon)]), snapshot))] == [20]
    posters.post(routed([sale(3, noon - timedelta(days=100))]), snapshot)
    assert list(posters.posters[NOTHING].program.units) == ["points"]


def test_compiled_versions_are_bounded() -> None:
    versions = [program(number + 1, (date(2026, 3, 1) + timedelta(days=number)).isoformat()) for number in range(POSTERS_MAX + 2)]
    posters, snapshot = Posters(Timetable(versions)), Snapshot()
    for number in range(len(versions)):
        moment = datetime(2026, 3, 1, 12, tzinfo=ZONE) + timedelta(days=number)
        assert [earned(p) for p in postings(posters.post(routed([sale(number, moment)]), snapshot))] == [10 * (number + 1)]
        assert len(posters.posters) <= POSTERS_MAX
