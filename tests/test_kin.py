"""Expiry of groups of accounts: parts of one sum, in whatever order accounts are looked at, and no trace of a group that ended."""

from copy import deepcopy
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.test_holdings import AS_OF, CREDITS, DATES, DEBITS
from tillstream.kernels.holdings import Hold, Holding, Units, copied, settle, sum_of
from tillstream.kernels.kin import ALONE, Kin, group_balance, parts
from tillstream.kernels.kin_holds import on_own_account
from tillstream.kernels.lapsing import due, due_after, others_due
from tillstream.kernels.snapshot import Snapshot, move
from tillstream.schemas.ledger import Entries

NAMES = ["root", "alias", "nobody"]


@st.composite
def holdings(draw: st.DrawFn) -> Holding:
    credits, debits = draw(CREDITS), draw(DEBITS)
    return Holding(dict(credits), dict(debits), {}, sum(credits.values()) - sum(debits.values()))


GROUPS = st.lists(holdings(), min_size=1, max_size=3)


def snapshot_of(group: list[Holding], as_of: str | None) -> Snapshot:
    """Accounts that are one group."""
    snapshot = Snapshot(as_of)
    names = NAMES[: len(group)]
    snapshot.accounts = {name: {"points": holding} for name, holding in zip(names, group, strict=True)}
    snapshot.groups = dict.fromkeys(names, names)
    return snapshot


def ticked(snapshot: Snapshot, order: list[str]) -> None:
    """Posts what is due, account by account."""
    for name in order:
        for entries in due(snapshot.accounts[name], snapshot.as_of, snapshot.kin(name)):
            move(snapshot.accounts[name], entries)


@given(GROUPS, st.sampled_from(DATES))
def test_parts_are_what_lapsed_of_the_sum_and_no_more_than_each_earned(group: list[Holding], as_of: str) -> None:
    found = parts(group, as_of)
    lapsed = settle(sum_of({"": holding} for holding in group).get("", Holding()), as_of).lapsed
    assert {day: total for day in DATES if (total := sum(part.get(day, 0) for part in found))} == lapsed
    for holding, part in zip(group, found, strict=True):
        assert all(0 < points <= holding.credits[day] for day, points in part.items())


@given(holdings(), st.sampled_from(DATES))
def test_part_of_an_account_that_stands_alone_is_all_that_lapsed(holding: Holding, as_of: str) -> None:
    assert parts([holding], as_of) == [settle(holding, as_of).lapsed]


@given(GROUPS, AS_OF, st.randoms(use_true_random=False))
def test_group_loses_what_lapsed_once_in_whatever_order_its_accounts_are_looked_at(
    group: list[Holding], as_of: str | None, random: Random
) -> None:
    one, other = snapshot_of(group, as_of), snapshot_of(deepcopy(group), as_of)
    ticked(one, sorted(one.accounts))
    ticked(other, random.sample(sorted(other.accounts), len(other.accounts)))
    assert one.accounts == other.accounts
    assert others_due(one) == set()
    total = sum_of(one.accounts.values()).get("points", Holding())
    settled = settle(total, as_of)
    assert total.expired == settled.lapsed
    assert total.balance == sum(settled.lots.values()) - settled.debt == group_balance("points", list(one.accounts.values()), as_of)


@given(GROUPS, st.sampled_from(DATES), st.sampled_from(DATES), st.randoms(use_true_random=False))
def test_group_that_ends_leaves_no_trace(group: list[Holding], as_of: str, later: str, random: Random) -> None:
    """After the next tick each account is where it would be if it had always stood alone."""
    alone = deepcopy(group)
    together = snapshot_of(group, as_of)
    ticked(together, sorted(together.accounts))
    together.groups, together.as_of = {}, max(as_of, later)
    ticked(together, sorted(together.accounts))
    for holding, units in zip(alone, together.accounts.values(), strict=True):
        own: Units = {"points": holding}
        for entries in due(own, together.as_of):
            move(own, entries)
        expired = {day: points for day, points in units["points"].expired.items() if points}
        assert (units["points"].balance, expired) == (own["points"].balance, own["points"].expired)


@given(GROUPS, st.sampled_from(DATES), st.sampled_from(DATES), st.integers(1, 12), st.booleans())
def test_entries_of_no_earlier_date_than_the_tick_make_nothing_due(
    group: list[Holding], as_of: str, day: str, points: int, spends: bool
) -> None:
    """The short cut of `due_after`: what it does not look at has nothing due, for the account or its kin."""
    snapshot = snapshot_of(group, as_of)
    ticked(snapshot, sorted(snapshot.accounts))
    units, kin = snapshot.accounts["root"], snapshot.kin("root")
    entry = Entries(kind="redemption", unit="points", points=[-points], spent_on=day)
    if not spends:
        entry = Entries(kind="accrual", unit="points", points=[points], expires_on=day)
    found = due_after(units, [entry], as_of, kin)
    after = copied(units)
    move(after, entry)
    assert found == due(after, as_of, kin)
    if day >= as_of:
        snapshot.accounts["root"] = after
        assert others_due(snapshot) == set()


def test_sum_of_holds_knows_one_that_ended_on_any_of_its_accounts() -> None:
    made = {"points": Holding(holds={"h": Hold(50, "2026-03-10", "2026-03-12")})}
    ended = {"points": Holding(holds={"h": Hold()})}
    for group in ([made, ended], [ended, made]):
        assert sum_of(group)["points"].holds == {"h": Hold()}
    assert sum_of([made, {}])["points"].holds == made["points"].holds


def test_release_of_a_hold_elsewhere_leaves_a_mark_and_moves_nothing() -> None:
    here = Entries(kind="release", unit="points", points=[5], spent_on="2026-03-10", hold_id="own")
    there = Entries(kind="release", unit="points", points=[50], spent_on="2026-03-10", hold_id="h")
    taken = Entries(kind="capture", unit="points", points=[-40], spent_on="2026-03-10", hold_id="h")
    mark = Entries(kind="release", unit="points", points=[], hold_id="h")
    assert on_own_account([here, there, taken], {"h": "alias"}) == [here, mark, taken]
    assert on_own_account([taken], {"h": "alias"}) == [mark, taken]


def test_account_without_kin_that_holds_anything_stands_alone() -> None:
    snapshot = snapshot_of([Holding()], None)
    snapshot.groups = {"root": ["root", "alias"]}
    assert snapshot.kin("root") == ALONE
    snapshot.alias_units = {"alias": {"points": Holding()}}
    assert snapshot.kin("root") == Kin([], [{"points": Holding()}])
