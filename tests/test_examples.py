"""The examples of DESIGN.md §5, in any order and any batching, to the letter."""

import json
import tomllib
from collections import Counter, defaultdict
from decimal import Decimal
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.reference import replay
from tests.strategies import post, postings, random_void
from tillstream.kernels.posting import Poster
from tillstream.kernels.snapshot import Snapshot
from tillstream.schemas.ledger import Entry, entries
from tillstream.schemas.program_file import parse_program

FOLDER = Path(__file__).parent / "examples"
NUMBERS = ["01", "02", "03", "04", "05", "06"]


@cache
def events_of(number: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / f"{number}.events.jsonl").read_text().splitlines()]


@cache
def expected_of(number: str) -> dict[str, Any]:
    expected: dict[str, Any] = json.loads((FOLDER / f"{number}.expected.json").read_text())
    return expected


@cache
def poster_of(number: str) -> Poster:
    return Poster(parse_program((FOLDER / f"{number}.program.toml").read_text()))


def net_of(all_entries: list[Entry]) -> list[dict[str, Any]]:
    """Accruals less their reversals per line and rule, as the examples print them."""
    by_id = {entry.entry_id: entry for entry in all_entries}
    assert len(by_id) == len(all_entries)
    net: Counter[tuple[Any, ...]] = Counter()
    for entry in all_entries:
        if entry.rule_id is not None:
            origin = by_id[entry.reverses] if entry.reverses else entry
            net[origin.account_id, origin.receipt_id, origin.line_no, origin.rule_id] += entry.points
    names = ("account_id", "receipt_id", "line_no", "rule_id", "points")
    return [dict(zip(names, (*key, points), strict=True)) for key, points in sorted(net.items()) if points]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("seed", range(20))
def test_example_in_any_order_and_batching_comes_to_the_letter(number: str, seed: int) -> None:
    events, expected = list(events_of(number)), expected_of(number)
    random = Random(seed)
    random.shuffle(events)
    snapshot = Snapshot()
    outcomes = post(poster_of(number), events, snapshot, random.choice([1, 2, 5, 100]))
    balances = {name: units["points"].balance for name, units in snapshot.accounts.items() if "points" in units}
    assert {name: points for name, points in balances.items() if points} == expected["balances"]
    assert net_of([entry for posting in postings(outcomes) for entry in entries(posting)]) == expected["net"]
    assert Counter(outcome.status for outcome in outcomes)["duplicate"] == expected["duplicates"]
    assert sum(map(len, snapshot.waiting.values())) == expected["waiting"]
    assert [outcome.problem for outcome in outcomes if outcome.problem] == []


@pytest.mark.parametrize("number", NUMBERS)
def test_line_entries_of_a_rule_sum_to_its_capped_award(number: str) -> None:
    poster = poster_of(number)
    caps = {rule.id: rule.cap.per_receipt for rule in poster.program.rules}
    for posting in postings(post(poster, events_of(number), Snapshot())):
        for group in posting.entries:
            if group.kind == "accrual":
                assert group.award is not None
                cap = caps[group.rule_id or ""]
                assert sum(group.points) == (group.award if cap is None else min(cap, group.award))


@pytest.mark.parametrize("number", NUMBERS)
def test_a_void_of_every_sale_leaves_nothing(number: str) -> None:
    """Conservation: what is wholly returned sums to zero, per receipt and in all."""
    sales = [event for event in events_of(number) if event["type"] == "receipt.sale"]
    voids = [random_void(sale) for sale in sales]
    snapshot = Snapshot()
    sums: dict[str, int] = defaultdict(int)
    for posting in postings(post(poster_of(number), [*events_of(number), *voids], snapshot)):
        sums[posting.reverses_posting or posting.posting_id] += sum(sum(group.points) for group in posting.entries)
    assert set(sums.values()) == {0}
    assert {units["points"].balance for units in snapshot.accounts.values() if units} == {0}


@pytest.mark.parametrize("number", NUMBERS)
def test_the_oracle_agrees_with_the_examples(number: str) -> None:
    program = tomllib.loads((FOLDER / f"{number}.program.toml").read_text(), parse_float=Decimal)
    outcome = replay(program, list(events_of(number)))
    assert {name: points for name, points in outcome.balances.items() if points} == expected_of(number)["balances"]
    assert outcome.duplicates == expected_of(number)["duplicates"]
