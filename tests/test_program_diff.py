"""The difference of two versions, in words."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import program_text, random_program
from tests.test_program_file import HEAD, rule
from tests.test_program_terms import SPENDING, TIERS, WHOLE
from tillstream.schemas.program_diff import differences
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.programs import ordered

BASE = rule("{ points = 1, per_amount = 100 }", name="base")


def told(old: str, new: str) -> list[str]:
    return [difference.text for difference in differences(parse_program(old).program, parse_program(new).program)]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (BASE, BASE.replace("points = 1", "points = 2"), "rule base: gives 2 points per 1.00 instead of 1"),
        (BASE, BASE.replace("100", "250"), "rule base: gives 1 points per 2.50 instead of 1 points per 1.00"),
        (BASE, rule("{ steps = [[2500, 5], [5000, 15]] }", name="base"),
         "rule base: gives points by steps: 5 from 25.00, 15 from 50.00 instead of 1 points per 1.00"),
        (BASE, BASE + rule("{ fixed = 50 }", 'when = { weekday = ["sat", "sun"] }', "extra"),
         "rule extra: is new and gives 50 points at once; when weekday: sat, sun"),
        (BASE + rule("{ multiply = 3, of = 'base' }", name="triple"), BASE, "rule triple: is gone; it gave 3 times what base gave"),
        (BASE + rule(more="when = { min_amount = 5000 }"), BASE + rule(more="when = { min_amount = 7550 }"),
         "rule a: when min amount is 75.50 instead of 50.00"),
        (BASE + rule(), BASE + rule(more='once = "year"'), "rule a: once is now year; it was not given"),
        (BASE + rule(more="cap = { budget = 5 }"), BASE + rule(), "rule a: cap budget is not given any more; it was 5"),
        (BASE + rule(more='cap = { per_member = { points = 6, per = "day" } }'),
         BASE + rule(more='cap = { per_member = { points = 5, per = "day" } }'), "rule a: cap per member points is 5 instead of 6"),
        (BASE + rule(), BASE + rule(more="exclusive = true"), "rule a: exclusive is now yes; it was not given"),
        (BASE + rule(), rule() + BASE, "rules: are judged in the order a, base instead of base, a"),
        (BASE, BASE + "[units.stamps]\nhold_days = 3\n", "unit stamps: is new; hold days: 3"),
        (BASE + "[units.stamps]", BASE, "unit stamps: is gone"),
        (SPENDING + BASE, SPENDING.replace("amount = 100", "amount = 50") + BASE,
         "unit points: spending worth amount is 50 instead of 100"),
        ("[groups.g]\n" + BASE, '[groups.g]\nstacking = "best"\n' + BASE, "group g: stacking is now best; it was not given"),
        (BASE, TIERS + BASE, "tiers: are new: green, gold"),
        (TIERS + BASE, BASE, "tiers: are gone"),
        (TIERS + BASE, TIERS.replace("months = 12", "months = 6") + BASE, "tiers: months is 6 instead of 12"),
        (TIERS + BASE, TIERS.replace("500_000", "600_000") + BASE, "tier gold: from is 600000 instead of 500000"),
    ],
)  # fmt: skip
def test_difference_is_told_in_a_sentence(old: str, new: str, sentence: str) -> None:
    assert told(HEAD + old, HEAD + new) == [sentence]


def test_what_is_written_out_and_what_is_left_to_its_default_are_the_same() -> None:
    assert told(HEAD + BASE, "# A comment.\n" + HEAD + BASE + 'priority = 100\nunit = "points"\non = "receipt"\n') == []


def test_later_beginning_is_a_difference() -> None:
    later = HEAD.replace("time_zone", "effective_from = 2026-05-01\ntime_zone")
    assert told(HEAD + BASE, later + BASE) == ["effective from is now 2026-05-01; it was not given"]


def test_everything_against_nothing_is_told_both_ways() -> None:
    there, back = told(HEAD + BASE, WHOLE), told(WHOLE, HEAD + BASE)
    assert len([text for text in there if " is new" in text]) == len([text for text in back if " is gone" in text]) == 10


@given(st.randoms(use_true_random=False))
def test_two_programs_without_difference_are_judged_alike(random: Random) -> None:
    """No difference: the same terms in the same order, so the kernels see the same."""
    first, second = (parse_program(program_text(random_program(random, rules_max=2))).program for _ in range(2))
    assert differences(first, first) == []
    same = (first.program, first.units, first.groups, ordered(first.rules)) == (
        *(second.program, second.units, second.groups, ordered(second.rules)),
    )
    assert (differences(first, second) == []) == same
