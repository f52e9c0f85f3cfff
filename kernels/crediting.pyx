"""Plain sales into ledger records and onto accounts: what posting.py does for any sale, in one pass over a batch.

In: `plain.PlainSale`s in the order of their partition, what the kernel gives them, a `Snapshot`. Out: an outcome each; the snapshot moves
along. A sale that is not as plain as it looks, since it came before or something waits for it, is left to `judge`, which is Poster's.
"""

from tillstream.kernels.routed import Outcome
from tillstream.schemas.fields import INT64_MAX

cdef object BALANCE_MAX = INT64_MAX


def credit_plain(list sales, awards, terms_of, bytes behind_day, list units, snapshot, judge):
    """The outcomes of `sales`, in their order.

    Args:
        awards: of the batch that all of them were scanned in; they come in the order of their places.
        terms_of: gives the `posting.DayTerms` of a local date.
        behind_day: constant bytes of every record, `writing.SaleWriter.behind_day`.
        units: the program's, by number.
        judge: gives the outcomes of a sale that is not as plain as it looks.
    """
    cdef list outcomes = [], status = awards.status, points
    cdef dict postings = snapshot.postings, waiting = snapshot.waiting
    day = terms = None
    for sale in sales:
        if sale.day is not day:
            day = sale.day
            terms = terms_of(day)
            day_bytes, fragments = terms.text.encode(), terms.fragments
        key = sale.key
        if key in postings or key in waiting or status[sale.place] or terms.expired(snapshot.as_of):
            outcomes.extend(judge(sale))
            continue
        record, totals = awards.record(sale.place, [sale.head(day_bytes, behind_day)], fragments)
        points = [(units[number], earned) for number, earned in totals]
        account_id = sale.account_id
        if not fits(snapshot.units(account_id), points):
            outcomes.extend(judge(sale))
            continue
        snapshot.credit(account_id, points, terms.expiries)
        snapshot.hold(key, terms.text, record)
        # As Outcome(...) would do it, without the call of a Python function.
        outcomes.append(tuple.__new__(Outcome, (sale, "accepted", (record,), None, False, ())))
    return outcomes


cdef bint fits(dict holdings, list points):
    """Whether the balances stay within 64 bits."""
    for unit, earned in points:
        holding = holdings.get(unit)
        if holding is not None and holding.balance + earned > BALANCE_MAX:
            return False
    return True
