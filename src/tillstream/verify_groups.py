"""G4 over groups: of what the accounts of a member hold together, what nobody spent expires, once (docs/adr/0016).

In: the groups that the registry knows, and what the ledger says of their accounts, summed up by date. Out: what does not hold, per group,
unit and last day. With it, balance = entries = lots - debt for the group: the entries are compared account by account.

Where an account of a group is to be looked at by the next tick, what does not hold may be due: a late event, or a merge, has changed it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from tillstream.kernels.holdings import NEVER, Holding, Units, settle, sum_of
from tillstream.schemas.ledger import Posting
from tillstream.sinks.registry import RegistryStore
from tillstream.sinks.reviews import ReviewStore
from tillstream.sinks.state import StateStore

NAMES_MAX = 5_000
"""Accounts whose groups are asked for at a time: bounds the answer."""

Groups = dict[str, list[str]]
"""By root, the accounts of a group that hold something."""


class Finding(NamedTuple):
    """One thing that does not hold."""

    check: str
    where: str
    expected: int
    found: int


async def groups_of(registry: RegistryStore, accounts: Collection[str]) -> Groups:
    """The groups of more than one of the accounts."""
    names = sorted(accounts)
    found: Groups = {}
    for first in range(0, len(names), NAMES_MAX):
        known = (await registry.of_accounts(names[first : first + NAMES_MAX])).groups()
        found |= {known[name][0]: known[name] for name in names[first : first + NAMES_MAX] if name in known}
    held = {root: [name for name in group if name in accounts] for root, group in found.items()}
    return {root: group for root, group in held.items() if len(group) > 1}


async def awaited(state: StateStore, partition: int, as_of: str | None) -> set[str]:
    """The accounts that the next tick of a partition is to look at."""
    _, noted = await state.due_accounts(partition, as_of or "")
    return {*noted, *await ReviewStore(state.client).noted(partition)}


def add_posting(units: Units, posting: Posting) -> None:
    """Adds what a posting says to the sums per date of its account."""
    for group in posting.entries:
        holding = units.setdefault(group.unit, Holding())
        points = sum(group.points)
        holding.balance += points
        if group.spent_on is not None:
            sums, day, points = holding.debits, group.spent_on, -points
        elif group.kind == "expiry":
            sums, day, points = holding.expired, group.expires_on or NEVER, -points
        else:
            sums, day = holding.credits, group.expires_on or NEVER
        sums[day] = sums.get(day, 0) + points


def wrongly_expired(group: Sequence[str], ledger: Mapping[str, Units], as_of: str | None) -> Iterator[Finding]:
    """Points that expired of a group though they were spent, or did not though nobody spent them."""
    for unit, holding in sum_of(ledger.get(name, {}) for name in group).items():
        lapsed = settle(holding, as_of).lapsed
        for day in sorted(lapsed.keys() | holding.expired.keys()):
            expected, found = lapsed.get(day, 0), holding.expired.get(day, 0)
            if expected != found:
                what = "points expired that were spent" if found > expected else "points have not expired that nobody spent"
                yield Finding(f"a group's expiry, {what}", f"{' + '.join(group)} {unit} of {day}", expected, found)
