"""Rules `on = "balance"`: whenever a member has enough of one unit, it is exchanged for another ("buy 9, the 10th is free").

What is exchanged has been earned before, so it counts for no tier and no cap.
"""

from collections.abc import Iterator, Mapping
from datetime import date, datetime

from tillstream.kernels.bonuses import is_open
from tillstream.kernels.earning import pending_first
from tillstream.kernels.holdings import Units, copied, spendable
from tillstream.kernels.snapshot import move
from tillstream.kernels.terms import Moment, conditions_of, first_failing
from tillstream.schemas.ledger import Entries
from tillstream.schemas.member_state import Member
from tillstream.schemas.programs import Exchange, Program, Rule, ordered

ROUNDS_MAX = 16
"""Exchanges may lead to exchanges; a program whose rules feed each other in a circle ends here."""


class Exchanges:
    """The exchanging rules of one program, in the order in which they are judged, and how long what they give is pending."""

    def __init__(self, program: Program, holding_days: Mapping[str, int]) -> None:
        self.rules = [(rule, conditions_of(rule)) for rule in ordered(program.rules) if rule.exchange is not None]
        self.holding_days = holding_days

    def possible(self, units: Units, more: Mapping[str, int]) -> bool:
        """Whether an account that holds `units` and gets `more` may have enough for an exchange; conditions apart."""
        found = [rule.exchange for rule, _ in self.rules if rule.exchange is not None]
        return any((units[x.unit].balance if x.unit in units else 0) + more.get(x.unit, 0) >= x.points for x in found)

    def due(
        self, units: Units, entries: list[Entries], member: Member, local: datetime, expiries: Mapping[str, str | None]
    ) -> Iterator[Entries]:
        """What is exchanged after `entries`, of the local moment `local`, by an account whose group held `units` before them."""
        after = copied(units)
        for group in entries:
            move(after, group)
        moment, day = Moment(local.date()), local.date().isoformat()
        for _ in range(ROUNDS_MAX):
            moved = False
            for rule, conditions in self.rules:
                exchange = rule.exchange
                times = 0 if exchange is None or exchange.unit not in after else spendable(after[exchange.unit], day) // exchange.points
                if exchange is None or times <= 0 or not is_open(rule, local, {}) or first_failing(conditions, member, moment) is not None:
                    continue
                moved = True
                for group in self.made(rule, exchange, times, day, expiries):
                    move(after, group)
                    yield group
            if not moved:
                return

    def made(self, rule: Rule, exchange: Exchange, times: int, day: str, expiries: Mapping[str, str | None]) -> Iterator[Entries]:
        """The entries of an exchange."""
        yield Entries(kind="redemption", unit=exchange.unit, points=[-times * exchange.points], rule_id=rule.id, spent_on=day)
        if given := times * (rule.award.fixed or 0):
            accrual = Entries(kind="accrual", unit=rule.unit, points=[given], rule_id=rule.id, expires_on=expiries[rule.unit])
            yield from pending_first([accrual], self.holding_days, date.fromisoformat(day))
