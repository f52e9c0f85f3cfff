"""Program files: every mistake is listed with its path and a hint; what this version does not judge is refused."""

from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import program_text, random_program
from tillstream.kernels.rules import CompiledRules, award_ratio
from tillstream.schemas.program_file import InvalidProgram, Mistake, parse_program

HEAD = """
[program]
id = "fresh-club"
currency = "PLN"
time_zone = "Europe/Warsaw"

[units.points]
expires = { after_months = 12, at = "month_end" }
negative_balance = "debt"
"""

SKETCH = (
    HEAD
    + """
[groups.weekend]
stacking = "best"

[[rules]]
id = "base"
award = { points = 1, per_amount = 100 }
exclude = { category = ["fuel/**", "tobacco/**"], kind = ["gift_card"] }

[[rules]]
id = "cheese-weekend"
when = { weekday = ["sat", "sun"], from = 2026-03-01, to = 2026-03-31, store = ["PL-*"], min_amount = 5000, min_positions = 3 }
lines = { category = ["dairy/cheese/**"] }
award = { multiply = 2, of = "base" }
cap = { per_receipt = 500 }
group = "weekend"
"""
)


def rule(award: str = "{ fixed = 1 }", more: str = "", name: str = "a") -> str:
    return f'\n[[rules]]\nid = "{name}"\naward = {award}\n{more}\n'


def spending(terms: str) -> str:
    """A unit with terms of spending, and a rule."""
    worth = "" if "worth" in terms else "worth = { points = 100, amount = 50 }\n"
    return f"\n[units.stars.spending]\n{worth}{terms}\n{rule()}"


def mistakes(text: str) -> list[Mistake]:
    with pytest.raises(InvalidProgram) as caught:
        parse_program(text)
    assert str(caught.value) == "\n".join(map(str, caught.value.mistakes))
    return caught.value.mistakes


def test_the_supported_part_of_the_designs_sketch_is_read() -> None:
    program, version = parse_program(SKETCH)
    base, cheese = program.rules
    assert (base.award.points, base.award.per_amount, base.exclude.kind) == (Decimal(1), 100, ["gift_card"])
    assert (cheese.when.min_positions, cheese.cap.per_receipt, cheese.award.of, cheese.group) == (3, 500, "base", "weekend")
    assert program.units["points"].expires is not None
    assert len(version) == 32


def test_version_is_that_of_the_content_and_not_of_its_layout() -> None:
    version = parse_program(SKETCH).version
    assert parse_program("# A comment.\n" + SKETCH.replace(" = ", "=")).version == version
    assert parse_program(SKETCH.replace("500", "501")).version != version
    assert parse_program(SKETCH.replace("5000", "5_000")).version == version


@pytest.mark.parametrize("seed", range(30))
def test_random_programs_are_read_and_compiled(seed: int) -> None:
    program = random_program(Random(seed), filler=seed)
    parsed = parse_program(program_text(program)).program
    assert [rule.id for rule in parsed.rules] == [rule["id"] for rule in program["rules"]]
    CompiledRules(parsed)


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        (HEAD, "$.rules", "is missing"),
        ("rules = []\n" + HEAD.replace('id = "fresh-club"', ""), "$.program.id", "is missing"),
        ("rules = []\n" + HEAD.replace("PLN", "zloty"), "$.program.currency", "length <= 3"),
        ("rules = []\n" + HEAD.replace("PLN", "pln"), "$.program.currency", "regex"),
        ("rules = []\n" + HEAD.replace("Europe/Warsaw", "Europe/Nowhere"), "$.program.time_zone", "unknown time zone"),
        ("rules = []\n" + HEAD.replace("Europe/Warsaw", "../passwd"), "$.program.time_zone", "unknown time zone"),
        ("rules = []\n" + HEAD.replace("Europe/Warsaw", ""), "$.program.time_zone", "unknown time zone"),
        ("rules = 5\n" + HEAD, "$.rules", "array"),
        (HEAD + rule().replace("fixed", "fixde"), "$.rules[0].award.fixde", "did you mean 'fixed'"),
        (HEAD + rule(more="prioritie = 5"), "$.rules[0].prioritie", "did you mean 'priority'"),
        (HEAD + rule(more="zzz = 5"), "$.rules[0].zzz", "known here: activity, award, cap"),
        (HEAD + rule('"x"'), "$.rules[0].award", "expected a table"),
        (HEAD + rule("{ fixed = 1, points = 2 }"), "$.rules[0].award", "no known form"),
        (HEAD + rule("{}"), "$.rules[0].award", "no known form"),
        (HEAD + rule("{ fixed = 1.5 }"), "$.rules[0].award.fixed", "int"),
        (HEAD + rule("{ fixed = -1 }"), "$.rules[0].award.fixed", ">= 0"),
        (HEAD + rule("{ fixed = 9223372036854775808 }"), "$.rules[0].award.fixed", "<="),
        (HEAD + rule("{ points = -1, per_amount = 10 }"), "$.rules[0].award.points", "negative"),
        (HEAD + rule("{ points = 1, per_amount = 0 }"), "$.rules[0].award.per_amount", ">= 1"),
        (HEAD + rule("{ points = 1.5, per_item = 1 }"), "$.rules[0].award.points", "whole"),
        (HEAD + rule("{ points = 1, per_line = 2000000000000000 }"), "$.rules[0].award", "at most"),
        (HEAD + rule("{ steps = [[5, 1], [5, 2]] }"), "$.rules[0].award.steps", "rise"),
        (HEAD + rule("{ steps = [[5]] }"), "$.rules[0].award.steps[0]", "length 2"),
        (HEAD + rule("{ steps = [] }"), "$.rules[0].award.steps", "length >= 1"),
        (HEAD + rule("{ multiply = 0.5, of = 'a' }"), "$.rules[0].award.multiply", "at least 1"),
        (HEAD + rule("{ multiply = 2, of = 'none' }"), "$.rules[0].award.of", "no rule is called"),
        (HEAD + rule("{ multiply = 2, of = 'a' }"), "$.rules[0].award.of", "before this rule"),
        (HEAD + rule("{ multiply = 2, of = 'b' }") + rule(name="b"), "$.rules[0].award.of", "before this rule"),
        (HEAD + "[units.stars]\n" + rule() + rule("{ multiply = 2, of = 'a' }", 'unit = "stars"', "b"), "$.rules[1].award.of", "gives"),
        (HEAD + '[groups.g]\nstacking = "best"\n' + rule(more='group = "g"') + rule("{ multiply = 2, of = 'a' }", name="b")
         + rule(more='group = "g"', name="c"), "$.rules[1].award.of", "not known yet"),
        (HEAD + rule() + rule(), "$.rules[1].id", "taken by $.rules[0]"),
        (HEAD + rule(more='unit = "stars"'), "$.rules[0].unit", "add [units.stars]"),
        (HEAD + rule(more='group = "g"'), "$.rules[0].group", "add [groups.g]"),
        (HEAD + rule(more='when = { hours = ["19:00", "08:00"] }'), "$.rules[0].when.hours", "over midnight"),
        (HEAD + rule(more='when = { hours = ["8:00", "9:00"] }'), "$.rules[0].when.hours[0]", "regex"),
        (HEAD + rule(more='when = { hours = ["08:00\\n", "09:00"] }'), "$.rules[0].when.hours[0]", "length <= 5"),
        (HEAD + rule(more='when = { hours = ["08:00"] }'), "$.rules[0].when.hours", "length 2"),
        (HEAD + rule(more="when = { from = 2026-04-01, to = 2026-03-31 }"), "$.rules[0].when.to", "comes before"),
        (HEAD + rule(more='when = { weekday = ["Sat"] }'), "$.rules[0].when.weekday[0]", "Sat"),
        (HEAD + rule(more="when = { weekday = [] }"), "$.rules[0].when.weekday", "length >= 1"),
        (HEAD + rule(more='when = { store = ["PL-**"] }'), "$.rules[0].when.store", "whole segment"),
        (HEAD + rule(more='lines = { category = ["a**/b"] }'), "$.rules[0].lines.category", "whole segment"),
        (HEAD + rule(more='exclude = { kind = ["gift-card"] }'), "$.rules[0].exclude.kind", "gift_card"),
        (HEAD + rule(more='rounding = "up"'), "$.rules[0].rounding", "up"),
        (HEAD.replace("after_months = 12,", "") + rule(), "$.units.points.expires", "exactly one"),
        (HEAD.replace("after_months = 12", "after_months = 12, after_days = 3") + rule(), "$.units.points.expires", "exactly one"),
        (HEAD.replace("after_months = 12", "after_months = 99999") + rule(), "$.units.points.expires", "thousand years"),
        (HEAD.replace("after_months = 12", 'fixed_dates = ["02-30"]') + rule(), "$.units.points.expires.fixed_dates", "02-30"),
        (HEAD.replace("after_months = 12", 'fixed_dates = ["12-31\\n"]') + rule(), "$.units.points.expires.fixed_dates[0]", "length <= 5"),
        (HEAD.replace('"debt"', '"refuse"') + rule(), "$.units.points.negative_balance", "refuse"),
        (HEAD + rule(more="hold_days = -1"), "$.rules[0].hold_days", ">= 0"),
        (HEAD + rule(more="hold_days = 4000"), "$.rules[0].hold_days", "3660"),
        (HEAD + "[units.stars]\nhold_days = 4000\n" + rule(), "$.units.stars.hold_days", "3660"),
        (HEAD + "[units.stars.spending]\nmax_percent = 20\n" + rule(), "$.units.stars.spending.worth", "is missing"),
        (HEAD + spending("worth = {points = 0, amount = 1}"), "$.units.stars.spending.worth.points", ">= 1"),
        (HEAD + spending("worth = {points = 1, amount = 2000000000000000}"), "$.units.stars.spending.worth", "at most"),
        (HEAD + spending("min_percent = 101"), "$.units.stars.spending.min_percent", "<= 100"),
        (HEAD + spending("min_percent = 30\nmax_percent = 20"), "$.units.stars.spending.max_percent", "no receipt at all"),
        (HEAD + spending("max_percent = 0"), "$.units.stars.spending.max_percent", "leave it out"),
        (HEAD + spending('lines = {category = ["a**"]}'), "$.units.stars.spending.lines.category", "whole segment"),
        (HEAD + spending('exclude = {kind = ["card"]}'), "$.units.stars.spending.exclude.kind", "gift_card"),
        (HEAD + spending("lines = {min_amount = 5}"), "$.units.stars.spending.lines.min_amount", "unknown key"),
        (HEAD + '[units.""]\n' + rule(), "$.units.", "length >= 1"),
        (HEAD + f"[groups.{'g' * 257}]\n" + rule(), f"$.groups.{'g' * 257}", "length <= 256"),
        ("[program", "$", "not TOML"),
        ("\0", "$", "not TOML"),
        ("x = " + "[" * 5000, "$", "not TOML"),
        ("x = " + "9" * 5000, "$", "not TOML"),
        ("x = 1e99999999999999999999", "$", "not TOML"),
    ],
)  # fmt: skip
def test_mistake_is_told_with_its_path(text: str, path: str, words: str) -> None:
    found = mistakes(text)
    assert [mistake for mistake in found if mistake.path == path and words in str(mistake)], found


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e400", "1e999999999", "1e-999999999", "1.0000000000000001", "1" * 17])
@pytest.mark.parametrize(("form", "key"), [("{ points = %s, per_amount = 7 }", "points"), ("{ multiply = %s, of = 'z' }", "multiply")])
def test_numbers_that_nobody_can_count_with_are_refused(number: str, form: str, key: str) -> None:
    """Regression: they escaped as arithmetic errors, and 1e999999999 took all memory."""
    assert [mistake.path for mistake in mistakes(HEAD + rule(form % number))] == [f"$.rules[0].award.{key}"]


def test_fraction_too_fine_for_64_bits_is_refused() -> None:
    """Regression: the compiled rules' columns could not hold it, when the worker started."""
    found = mistakes(HEAD + rule("{ points = 0.00000000000001, per_amount = 999999999999999 }"))
    assert [mistake.path for mistake in found] == ["$.rules[0].award"]
    parse_program(HEAD + rule("{ points = 0.0000000001, per_amount = 999 }"))


def test_all_mistakes_are_listed_at_once_and_in_the_same_order() -> None:
    text = HEAD + rule(more='zzz = 1\nyyy = 2\nxxx = 3\npriority = "high"') + rule("{ fixd = 1 }") + "[extra]\n"
    assert [mistake.path for mistake in mistakes(text)] == [
        "$.extra", "$.rules[0].xxx", "$.rules[0].yyy", "$.rules[0].zzz", "$.rules[0].priority", "$.rules[1].award.fixd",
    ]  # fmt: skip
    text = HEAD + rule(more='unit = "stars"\ngroup = "g"') + rule("{ steps = [[2, 1], [1, 1]] }")
    assert [mistake.path for mistake in mistakes(text)] == [
        "$.rules[0].unit", "$.rules[0].group", "$.rules[1].id", "$.rules[1].award.steps",
    ]  # fmt: skip


@given(st.decimals(0, 10**6, places=6, allow_nan=False), st.integers(1, 10**6))
def test_decimals_are_exact(points: Decimal, per_amount: int) -> None:
    program = parse_program(HEAD + rule(f"{{ points = {points:f}, per_amount = {per_amount} }}")).program
    numerator, divisor = award_ratio(program.rules[0], "per_amount")
    assert numerator * per_amount * 10**6 == int(points * 10**6) * divisor


def leaves(tree: Any) -> list[tuple[Any, Any]]:
    """Every (table or array, key) in a tree."""
    pairs = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    return [(tree, key) for key, _ in pairs] + [leaf for _, item in pairs for leaf in leaves(item)]


@given(
    st.randoms(use_true_random=False),
    st.one_of(st.integers(), st.floats(allow_nan=False), st.booleans(), st.sampled_from(["", "x", [], {}, [[]], "24:00", "12-31\n", "\0"])),
)
def test_any_mutated_program_compiles_or_lists_its_mistakes(random: Random, value: Any) -> None:
    program = random_program(random, rules_max=3)
    place, key = random.choice(leaves(program))
    place[key] = value
    found = [Mistake("$", "")]
    try:
        CompiledRules(parse_program(program_text(program)).program)
    except InvalidProgram as problem:
        found = problem.mistakes
    assert found
    assert all(mistake.path.startswith("$") for mistake in found)
