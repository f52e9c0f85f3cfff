"""Every named case of tests/cases: by the oracle, and by the engine as its lines stand, and shuffled with one event repeated."""

from collections import Counter
from random import Random

import pytest

from tests.cases import Case, cases
from tests.engine import engine_outcome
from tests.oracle import Outcome, outcome

CASES = cases()
MISSION_COMPLAINTS = {
    "a refund that keeps the points",
    "a partial return that takes back all",
    "a partial return that takes back nothing",
    "a refund that takes the redemption twice",
    "an offline retry that doubles points",
    "float drift",
    "a currency rounding that turns one point into none",
    "the reward line that itself earns",
    "a code refused without a reason",
    "a budget overspent by two tills at once",
    "a resubmitted event that gets today's date",
    "idempotency that is remembered for 24 hours only",
}


def by_name(case: Case) -> str:
    return case.name


def check(case: Case, there: Outcome) -> None:
    """All that the case says; what it does not name is zero."""
    for word, wanted in (("balance", case.balance), ("pending", case.pending), ("held", case.held)):
        found = {name_of(account, unit): part[word] for account, units in there.accounts.items() for unit, part in units.items()}
        assert {name: points for name, points in found.items() if points} == wanted, word
    if case.lots is not None:
        lots = {name_of(account, unit): part["lots"] for account, units in there.accounts.items() for unit, part in units.items()}
        wanted_lots = {name: [tuple(lot.split()) for lot in texts] for name, texts in case.lots.items()}
        found_lots = {name: [(lot["expires_on"] or "never", str(lot["points"])) for lot in parts] for name, parts in lots.items() if parts}
        assert found_lots == wanted_lots
    if case.net is not None:
        assert sorted(net_texts(there)) == sorted(case.net)
    assert sorted(there.rejected.values()) == sorted(case.rejected)
    assert there.waiting == case.waiting
    if case.tier is not None:
        assert {account: tier for account, tier in there.tiers.items() if tier} == {name: tier for name, tier in case.tier.items() if tier}


def name_of(account: str, unit: str) -> str:
    return account if unit == "points" else f"{account}/{unit}"


def net_texts(there: Outcome) -> list[str]:
    """`receipt line rule points` of receipts; of other events, in sum, `account rule points`."""
    receipts = [f"{origin} {line} {rule} {points}" for (_, _, origin, line, rule), points in there.net.items() if line is not None]
    events: Counter[tuple[str, str]] = Counter()
    for (account, _, _, line, rule), points in there.net.items():
        if line is None:
            events[account, rule] += points
    return receipts + [f"{account} {rule} {points}" for (account, rule), points in events.items()]


def test_case_names_are_unique_and_name_every_complaint() -> None:
    names = [case.name for case in CASES]
    assert len(names) >= 150
    assert [name for name, times in Counter(names).items() if times > 1] == []
    assert MISSION_COMPLAINTS - set(names) == set()


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_case_by_the_oracle_comes_to_what_was_computed_by_hand(case: Case) -> None:
    there = outcome(case.parsed, case.events)
    check(case, there)
    assert there.duplicates == case.duplicates


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_case_by_the_engine_comes_to_what_was_computed_by_hand(case: Case) -> None:
    there = engine_outcome(case.programs, case.events)
    check(case, there)
    assert there.duplicates == case.duplicates


@pytest.mark.parametrize("case", CASES, ids=by_name)
@pytest.mark.parametrize("seed", range(3))
def test_case_shuffled_and_with_a_repeat_comes_to_the_same(case: Case, seed: int) -> None:
    """A conflict is decided by arrival, so its events keep their order."""
    events, random = list(case.events), Random(seed)
    if "conflict" not in case.rejected:
        random.shuffle(events)
    if not case.rejected:
        events.insert(random.randint(0, len(events)), random.choice(events))
    check(case, engine_outcome(case.programs, events))
