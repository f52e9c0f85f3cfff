"""The award kernel against the oracle, bit by bit: any program, any receipt."""

from array import array
from collections.abc import Sequence
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import Overflow, earn
from tests.strategies import UNSHRUNK, Event, Program, program_text, random_program, random_sale, raw_of
from tillstream.kernels.award import Awards, Kernel
from tillstream.kernels.columns import Columns, gather
from tillstream.kernels.rules import Bits, CompiledRules
from tillstream.schemas.events import SaleEvent, decode
from tillstream.schemas.program_file import parse_program


def awards_of(program: Program, sales: Sequence[Event]) -> tuple[CompiledRules, Awards, Columns]:
    parsed = parse_program(program_text(program)).program
    compiled = CompiledRules(parsed)
    typed = [event.data for event in map(decode, map(raw_of, sales)) if isinstance(event, SaleEvent)]
    columns = gather(compiled, typed, ZoneInfo(parsed.program.time_zone))
    return compiled, Kernel(compiled).award(*columns[:-1]), columns


def agree(program: Program, sales: Sequence[Event]) -> int:
    """Asserts that kernel and oracle agree on every receipt; the number of receipts that overflowed."""
    compiled, awards, _ = awards_of(program, sales)
    overflows = parts = 0
    for event, given_, status in zip(sales, awards.by_receipt(), awards.status, strict=True):
        try:
            expected: Any = earn(program, event["data"])
        except Overflow:
            assert (status, given_) == (1, [])
            overflows += 1
            continue
        assert status == 0
        found = {compiled.rules[row].id: dict(zip(places, points, strict=True)) for row, _, _, places, points in given_}
        assert found == {rule: by_line for rule, by_line in expected.items() if by_line}
        for row, _basis, award, places, points in given_:
            cap = compiled.rules[row].cap.per_receipt
            assert sum(points) == (award if cap is None else min(award, cap))
            parts += len(places)
    assert awards.parts_count == parts
    return overflows


@given(st.randoms(use_true_random=False))
@settings(max_examples=150, phases=UNSHRUNK)
def test_any_program_on_any_receipts_gives_what_the_oracle_gives(random: Random) -> None:
    program = random_program(random)
    agree(program, [random_sale(random, n, huge=random.random() < 0.3) for n in range(3)])


@pytest.mark.parametrize("seed", range(120))
def test_seeded_programs_on_many_receipts_give_what_the_oracle_gives(seed: int) -> None:
    random = Random(seed)
    program = random_program(random, filler=random.choice([0, 0, 56, 60, 125]))
    agree(program, [random_sale(random, n, huge=n % 5 == 0) for n in range(25)])


@pytest.mark.parametrize("seed", range(30))
def test_long_receipts_are_spread_by_sorting_as_short_ones_by_picking(seed: int) -> None:
    random = Random(seed)
    sales = [random_sale(random, n, lines_max=random.choice([47, 49, 60]), huge=n % 4 == 0) for n in range(5)]
    agree(random_program(random, rules_max=12), sales)


def test_huge_receipts_overflow_and_leave_their_neighbours_alone() -> None:
    random = Random(5)
    program = random_program(Random(3)) | {"rules": [{"id": "all", "award": {"points": 3, "per_amount": 1}}]}
    sales = [random_sale(random, n, huge=n % 2 == 0) for n in range(60)]
    assert 5 < agree(program, sales) < 40


def test_program_without_rules_and_receipt_without_lines_give_nothing() -> None:
    sale = random_sale(Random(1))
    empty = sale | {"data": sale["data"] | {"lines": [], "tenders": []}}
    agree(random_program(Random(1)) | {"rules": []}, [sale, empty])
    agree(random_program(Random(1)), [empty])
    assert awards_of(random_program(Random(1)), [])[1].by_receipt() == []


@pytest.mark.parametrize("rules_n", [63, 64, 65, 128, 129, 200])
def test_rules_beyond_a_word_are_judged(rules_n: int) -> None:
    program = random_program(Random(2)) | {"rules": [{"id": f"r{n}", "award": {"fixed": n + 1}} for n in range(rules_n)]}
    sale = random_sale(Random(9), lines_max=3)
    sale["data"] |= {"lines": [{"line_no": 1, "sku": "x", "quantity_milli": 1000, "amount": 5}], "tenders": []}
    agree(program, [sale])
    assert awards_of(program, [sale])[1].parts_count == rules_n


def test_parts_withdrawn_by_a_better_rival_do_not_count() -> None:
    """Regression: `parts_count` counted the loser's parts as well."""
    rules: list[dict[str, Any]] = [{"id": f"r{n}", "group": "g", "award": {"fixed": n}} for n in range(1, 4)]
    program = random_program(Random(2)) | {"groups": {"g": {"stacking": "best"}}, "rules": rules}
    sale = random_sale(Random(9), lines_max=3)
    sale["data"] |= {"lines": [{"line_no": n, "sku": "x", "quantity_milli": 1000, "amount": 5} for n in range(3)], "tenders": []}
    awards = awards_of(program, [sale])[1]
    assert awards.parts_count == sum(len(places) for _, _, _, places, _ in awards.by_receipt()[0]) == 3


def test_rule_that_lost_its_group_gives_nothing_to_multiply() -> None:
    rules: list[dict[str, Any]] = [{"id": f"r{n}", "group": "g", "award": {"fixed": n}} for n in range(1, 4)]
    rules += [{"id": f"twice{n}", "award": {"multiply": 2, "of": f"r{n}"}} for n in range(1, 4)]
    program = random_program(Random(2)) | {"groups": {"g": {"stacking": "best"}}, "rules": rules}
    sale = random_sale(Random(9), lines_max=3)
    sale["data"] |= {"lines": [{"line_no": n, "sku": "x", "quantity_milli": 1000, "amount": 5} for n in range(3)], "tenders": []}
    agree(program, [sale])
    assert [row for row, *_ in awards_of(program, [sale])[1].by_receipt()[0]] == [2, 5]


def test_bits_stay_right_when_they_start_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tillstream.kernels.rules.VALUES_MAX", 2)
    for seed in range(10):
        random = Random(seed)
        agree(random_program(random), [random_sale(random, n) for n in range(20)])


def test_bits_remember_no_more_values_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tillstream.kernels.rules.VALUES_MAX", 3)
    compiled = CompiledRules(parse_program(program_text(random_program(Random(1)))).program)
    bits = Bits(compiled.rules, lambda rule, value: value % 2 == 0)
    words = [bits.words(value) for value in range(10)]
    assert len(bits.known) <= 3
    assert words == [bits.words(value) for value in range(10)]


def arguments(**changes: Any) -> list[Any]:
    columns: dict[str, Any] = {
        "first": array("q", [0, 1]), "tender": array("q", [0]), "receipt_bits": array("Q", [1]), "amount": array("q", [5]),
        "quantity": array("q", [1000]), "line_no": array("q", [1]), "line_bits": array("Q", [1]),
    }  # fmt: skip
    return list((columns | {name: array("Q" if name.endswith("bits") else "q", value) for name, value in changes.items()}).values())


@pytest.mark.parametrize(
    "changes",
    [
        {"first": [0, 2]}, {"first": [1, 1]}, {"first": []}, {"first": [0, 1, 0, 1]}, {"tender": []}, {"tender": [-1]}, {"amount": [-1]},
        {"quantity": [-5]}, {"line_no": [-1]}, {"quantity": []}, {"line_no": [1, 2]}, {"line_bits": []}, {"receipt_bits": [1, 1]},
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, list[int]]) -> None:
    kernel = Kernel(CompiledRules(parse_program(program_text(random_program(Random(1), rules_max=1))).program))
    assert kernel.award(*arguments()).status == [0]
    with pytest.raises(ValueError, match=r"first|tender|line|lengths"):
        kernel.award(*arguments(**changes))


def test_tender_above_the_total_is_an_overflow_and_never_a_wrong_number() -> None:
    kernel = Kernel(CompiledRules(parse_program(program_text(random_program(Random(1), rules_max=1))).program))
    assert kernel.award(*arguments(tender=[6])).status == [1]
