"""Advice: what is allowed and probably not meant is told, and what is meant is not."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import UNSHRUNK, program_text, random_program, random_sale, routed
from tests.test_program_file import HEAD, SKETCH, rule
from tests.test_program_terms import SPENDING, TIERS
from tillstream.kernels.posting import Poster
from tillstream.schemas.events import SaleEvent
from tillstream.schemas.program_advice import advice
from tillstream.schemas.program_file import parse_program
from tillstream.schemas.program_overlap import can_meet

BASE = rule("{ points = 1, per_amount = 100 }", name="base")
CENT = HEAD + SPENDING
"""One point pays one minor unit, 0.01."""


def told(text: str) -> list[tuple[str, str]]:
    return [(item.path, str(item)) for item in advice(parse_program(text).program)]


def test_plain_program_needs_no_advice() -> None:
    assert told(SKETCH) == []
    assert told(CENT + BASE) == []


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (HEAD + "[units.stamps]\n" + BASE, "$.units.stamps", "owed for ever"),
        (HEAD + rule(name="b") + rule(), "$.rules[1]", "together with 'b'"),
        (HEAD + "".join(rule(name=name) for name in "bcdef"), "$.rules[4]", "'b', 'c', 'd' and 1 more"),
        (HEAD + rule(more='lines = { category = ["dairy/**"] }', name="b") + rule(more='lines = { category = ["dairy"] }'),
         "$.rules[1]", "'b'"),
        (HEAD.replace("time_zone", "effective_from = 2026-04-01\ntime_zone") + rule(more="when = { to = 2026-03-31 }"),
         "$.rules[0].when.to", "the program begins on 2026-04-01"),
        (HEAD + rule(more="exclusive = true", name="b") + rule(more='when = { weekday = ["sat"] }'), "$.rules[1]", "'b' is exclusive and"),
        (HEAD + rule(more='exclusive = true\nwhen = { weekday = ["sat"] }', name="b")
         + rule(more='when = { weekday = ["sat"], min_amount = 5 }'), "$.rules[1]", "never applies"),
        (HEAD + '[groups.g]\nstacking = "first"\n' + rule(more='group = "g"', name="b") + rule("{ fixed = 2 }", 'group = "g"'),
         "$.rules[1]", "of which the first gives"),
        (CENT + rule("{ points = 21, per_amount = 100 }"), "$.rules[0].award", "21% of what was paid"),
        (CENT + rule("{ points = 10, per_amount = 100 }", name="b") + rule("{ multiply = 2.5, of = 'b' }"), "$.rules[1].award", "25% of"),
        (CENT + rule("{ points = 5, per_item = 1 }"), "$.rules[0].award", "more than was paid"),
        (CENT + rule("{ points = 5, per_line = 1 }"), "$.rules[0].award", "more than was paid"),
        (CENT + rule("{ fixed = 5 }"), "$.rules[0].award", "more than was paid"),
        (CENT + rule("{ fixed = 300 }", "when = { min_amount = 1000 }"), "$.rules[0].award", "30% of"),
        (CENT + rule("{ steps = [[100, 10], [1000, 300]] }"), "$.rules[0].award", "30% of"),
        (CENT + rule("{ steps = [[0, 10]] }"), "$.rules[0].award", "more than was paid"),
        (HEAD + rule(more='on = "activity.review"'), "$.rules[0]", "as often as anybody likes"),
    ],
)  # fmt: skip
def test_advice_is_told_with_its_path(text: str, path: str, words: str) -> None:
    assert [item for item in told(text) if item[0] == path and words in item[1]], told(text)


@pytest.mark.parametrize(
    "text",
    [
        HEAD + '[groups.g]\nstacking = "best"\n' + rule(more='group = "g"', name="b") + rule(more='group = "g"'),
        HEAD + rule(more='when = { weekday = ["mon"] }', name="b") + rule(more='when = { weekday = ["sat", "sun"] }'),
        HEAD + rule(more='when = { hours = ["08:00", "12:00"] }', name="b") + rule(more='when = { hours = ["12:00", "15:00"] }'),
        HEAD + rule(more="when = { to = 2026-03-31 }", name="b") + rule(more="when = { from = 2026-04-01 }"),
        HEAD + rule(more='when = { store = ["PL-*"] }', name="b") + rule(more='when = { store = ["DE-1"] }'),
        HEAD + rule(more='lines = { category = ["dairy/**"] }', name="b") + rule(more='lines = { category = ["fuel", "drinks/*"] }'),
        HEAD + rule(more='lines = { kind = ["deposit"] }', name="b") + rule(),
        HEAD + TIERS + rule(more='member = { tier = ["green"] }', name="b") + rule(more='member = { tier = ["gold"] }'),
        HEAD + rule(more="member = { first_purchase = true }", name="b") + rule(more="member = { first_purchase = false }"),
        HEAD + rule(more='on = "enrolled"', name="b") + rule(),
        HEAD + rule(more='exclusive = true\nwhen = { weekday = ["sat"] }', name="b") + rule("{ points = 1, per_line = 1 }"),
        HEAD + rule(more='exclusive = true\nonce = "day"', name="b") + rule("{ points = 1, per_line = 1 }"),
        HEAD + rule(more="exclusive = true", name="b") + rule("{ points = 1, per_line = 1 }", 'lines = { kind = ["deposit"] }'),
        CENT + rule("{ points = 20, per_amount = 100 }"),
        CENT + rule("{ points = 50, per_amount = 100 }", "cap = { per_receipt = 500 }"),
        CENT + rule("{ points = 50, per_item = 1 }", "cap = { budget = 500 }"),
        CENT + rule("{ fixed = 50 }", 'once = "day"'),
        HEAD + rule(more='on = "activity.review"\nonce = "day"'),
        HEAD + rule(more='on = "activity.review"\ncap = { per_member = { points = 5, per = "day" } }'),
    ],
)
def test_what_is_plainly_meant_is_left_alone(text: str) -> None:
    assert told(text) == []


@settings(phases=UNSHRUNK, max_examples=60)
@given(st.randoms(use_true_random=False))
def test_rules_that_give_to_one_line_together_are_seen_as_able_to_meet(random: Random) -> None:
    """The kernel is the oracle: whatever two rules gave to the same line of a real sale, `can_meet` may not rule out."""
    parsed = parse_program(program_text(random_program(random)))
    poster = Poster(parsed)
    sales = [item.event for item in routed(random_sale(random, number) for number in range(8)) if isinstance(item.event, SaleEvent)]
    rules = poster.compiled.rules
    for earned in poster.earn(sales):
        given_to: dict[int, list[int]] = {}
        for row, _, _, places, _ in earned.awards.given(earned.place):
            for place in places:
                given_to.setdefault(place, []).append(row)
        for rows in given_to.values():
            assert all(can_meet(rules[a], rules[b]) for a in rows for b in rows)
