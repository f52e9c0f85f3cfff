"""Plain sales of members into ledger records and onto accounts: what member_poster.py does for any sale, in one pass over a run of them.

In: `plain.PlainSale`s of accounts that are all different, their members' states, which are this module's to move, and what the rules give
under them. Out: an outcome each; the snapshot moves along. A sale from which more follows than that it earns is left to `judge`, which is
MemberPoster's and begins anew: until a sale is certain to be kept, nothing that others see has moved.
"""

from tillstream.kernels.crediting import credit, days_run, fits
from tillstream.kernels.routed import Outcome
from tillstream.kernels.tiers import counter_of, next_levels, rise
from tillstream.kernels.writing import behind_entries, member_text


def credit_members(list sales, list members, awards, run, poster, snapshot, long as_of, judge):
    """The outcomes of `sales`, in their order.

    Args:
        members: the states at the beginning of the sales' dates.
        awards: what the rules give, by place in `sales`.
        run: the sales' `member_poster.Run`.
        poster: the `member_poster.MemberPoster` that judges them.
        as_of: the date of the latest tick, 0 before the first.
        judge: gives the outcomes of a sale that is not as plain as it looks.
    """
    cdef list outcomes = [], status = awards.status
    cdef dict postings = snapshot.postings, waiting = snapshot.waiting
    cdef Py_ssize_t place
    cdef long ordinal = 0
    mover, family, watched, tiers = poster.rules.counting.mover, poster.family, run.watched, poster.program.tiers
    left, take, named = family.budgets.left, family.budgets.moved, poster.named
    thresholds, lowest, counter = ({}, 0, None) if tiers is None else (next_levels(tiers), tiers.levels[0].from_, counter_of(tiers))
    wanted = [(rule.exchange.unit, rule.exchange.points) for rule, _ in poster.exchanges.rules]
    day = terms = None
    for place in range(len(sales)):
        sale, member = sales[place], members[place]
        if sale.day is not day:
            day = sale.day
            ordinal = day.toordinal()
            terms = poster.terms_of(day)
            day_bytes, fragments = terms.text.encode(), terms.fragments
            awards.write(place, days_run(sales, place), fragments)
        key, account_id = sale.key, sale.account_id
        position = (sale.instant, key)
        if key in postings or key in waiting or status[place] or position < member.last or member.into or (wanted and account_id in snapshot.groups) or terms.expired(snapshot.as_of):
            outcomes.extend(judge(sale))
            continue
        sums = awards.sums(place)
        moved = mover.gives(sums)
        holdings = snapshot.units(account_id)
        if moved.pending or not fits(holdings, moved.units.items()) or overspends(moved.budgets, named, left) or exchanges(wanted, holdings, moved.units):
            outcomes.extend(judge(sale))
            continue
        mover.sold(member, ordinal, watched.total(place), watched.counts(place), sums)
        if tiers is not None and may_rise(thresholds, lowest, counter, member) and rise(tiers, member, day):
            outcomes.extend(judge(sale))
            continue
        member.last = position
        member.dues_until = max(member.dues_until, min(ordinal, as_of))
        if ordinal < as_of and family.dues_between(member, max(member.dues_until, ordinal), as_of):
            outcomes.extend(judge(sale))
            continue
        member.next_due = family.next_due(member, max(as_of, member.dues_until))
        look = poster.rules.look_at(run.looks, place) if moved.again else None
        budgets = {rule_id: points for rule_id, points in moved.budgets if points}
        text = member_text(member)
        behind = behind_entries(watched.judged(place), text, budgets, look)
        record, _ = awards.record(place, [sale.head(day_bytes, poster.writer.behind_day)], fragments, behind)
        credit(snapshot, account_id, moved.units.items(), terms.expiries)
        snapshot.hold(key, terms.text, record)
        snapshot.stand(account_id, member, key, sale.occurred_at, text)
        snapshot.take(budgets)
        for rule_id, points in budgets.items():
            take(named[rule_id], points)
        # As Outcome(...) would do it, without the call of a Python function.
        outcomes.append(tuple.__new__(Outcome, (sale, "accepted", (record,), None, False, ())))
    return outcomes


cdef bint overspends(list budgets, dict named, left):
    """Whether others of the same run have meanwhile taken from a budget what a sale was promised."""
    for rule_id, points in budgets:
        if points > left(named[rule_id]):
            return True
    return False


cdef bint exchanges(list wanted, dict holdings, dict more):
    """Whether an account that gets `more` may have enough for an exchange (`exchange.Exchanges.possible`)."""
    for unit, points in wanted:
        holding = holdings.get(unit)
        if more.get(unit, 0) + (0 if holding is None else holding.balance) >= points:
            return True
    return False


cdef bint may_rise(dict thresholds, lowest, str counter, member):
    """Whether all that was ever counted reaches the next level; what a window has of it is no more than that."""
    cdef dict counts = member.counts
    counted = counts.get(counter)
    reached = 0
    if counted is not None:
        for count in (<dict> counted).values():
            if count > 0:
                reached = reached + count
    return reached >= thresholds.get(member.tier, lowest)
