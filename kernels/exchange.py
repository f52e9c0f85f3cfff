"""Rules `on = "balance"`: whenever an account has enough of one unit, it is exchanged for another ("buy 9, the 10th is free")."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date

from tillstream.kernels.holdings import Units
from tillstream.kernels.terms import Moment, conditions_of, first_failing
from tillstream.schemas.ledger import Entries
from tillstream.schemas.member_state import Member
from tillstream.schemas.programs import Program, ordered

ROUNDS_MAX = 16
"""Exchanges may lead to exchanges; a program whose rules feed each other in a circle ends here."""


class Exchanges:
    """The exchanging rules of one program, in the order in which they are judged."""

    def __init__(self, program: Program) -> None:
        self.rules = [(rule, conditions_of(rule)) for rule in ordered(program.rules) if rule.exchange is not None]

    def possible(self, units: Units, more: Mapping[str, int]) -> bool:
        """Whether an account that holds `units` and gets `more` may have enough for an exchange; conditions apart."""
        found = [rule.exchange for rule, _ in self.rules if rule.exchange is not None]
        return any((units[x.unit].balance if x.unit in units else 0) + more.get(x.unit, 0) >= x.points for x in found)

    def due(self, units: Units, entries: list[Entries], member: Member, day: str, expiries: dict[str, str | None]) -> Iterator[Entries]:
        """What is exchanged after `entries` on an account that held `units` before them."""
        balances = Counter({name: holding.balance for name, holding in units.items()})
        for group in entries:
            balances[group.unit] += sum(group.points)
        moment = Moment(date.fromisoformat(day))
        for _ in range(ROUNDS_MAX):
            moved = False
            for rule, conditions in self.rules:
                exchange = rule.exchange
                times = 0 if exchange is None else balances[exchange.unit] // exchange.points
                if exchange is None or times <= 0 or first_failing(conditions, member, moment) is not None:
                    continue
                spent, given = times * exchange.points, times * (rule.award.fixed or 0)
                balances[exchange.unit] -= spent
                balances[rule.unit] += given
                moved = True
                yield Entries(kind="redemption", unit=exchange.unit, points=[-spent], rule_id=rule.id, spent_on=day)
                if given:
                    yield Entries(kind="accrual", unit=rule.unit, points=[given], rule_id=rule.id, expires_on=expiries[rule.unit])
            if not moved:
                return
