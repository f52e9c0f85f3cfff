"""Plain sales into ledger records and onto accounts: what posting.py does for any sale, in one pass over a batch.

In: `plain.PlainSale`s in the order of their partition, what the kernel gives them, a `Snapshot`. Out: an outcome each; the snapshot moves
along. A sale that is not as plain as it looks, since it came before or something waits for it, is left to `judge`, which is Poster's.
"""

from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject

from tillstream.kernels.holdings import NEVER, Holding
from tillstream.kernels.routed import Outcome
from tillstream.kernels.set_aside import held_points, pending_points
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
    cdef dict postings = snapshot.postings, waiting = snapshot.waiting, new_postings = snapshot.new_postings, accounts = snapshot.accounts
    cdef dict holdings
    cdef Py_ssize_t i
    day = terms = None
    for i in range(len(sales)):
        sale = sales[i]
        if sale.day is not day:
            day = sale.day
            terms = terms_of(day)
            day_bytes, fragments = terms.text.encode(), terms.fragments
            awards.write(sale.place, sales[i + days_run(sales, i) - 1].place + 1 - sale.place, fragments)
        key = sale.key
        if key in postings or key in waiting or status[sale.place] or terms.expired(snapshot.as_of):
            outcomes.extend(judge(sale))
            continue
        record, totals = awards.record(sale.place, [sale.head(day_bytes, behind_day)], fragments)
        points = [(units[number], earned) for number, earned in totals]
        account_id = sale.account_id
        holdings = holdings_of(accounts, account_id)
        if not fits(holdings, points):
            outcomes.extend(judge(sale))
            continue
        add(snapshot, account_id, holdings, points, terms.expiries)
        postings[key] = record
        new_postings[key] = terms.text
        # As Outcome(...) would do it, without the call of a Python function.
        outcomes.append(tuple.__new__(Outcome, (sale, "accepted", (record,), None, False, ())))
    return outcomes


cpdef Py_ssize_t days_run(list sales, Py_ssize_t i) except -1:
    """How many sales from `i` on are of the same day as the first of them."""
    cdef Py_ssize_t end = i + 1
    while end < len(sales) and sales[end].day is sales[i].day:
        end += 1
    return end - i


def credit(snapshot, str account_id, points, dict expiries):
    """Adds accruals by unit, with their last days of use, to an account: what `Snapshot.apply` does for the entries of a plain sale."""
    add(snapshot, account_id, holdings_of(snapshot.accounts, account_id), points, expiries)


cdef int add(snapshot, str account_id, dict holdings, points, dict expiries) except -1:
    cdef dict credits
    cdef PyObject* found
    for unit, earned in points:
        found = PyDict_GetItem(holdings, unit)
        if found == NULL:
            holding = holdings[unit] = Holding()
        else:
            holding = <object> found
        expiry = expiries[unit] or NEVER
        credits = holding.credits
        found = PyDict_GetItem(credits, expiry)
        if found == NULL:
            credits[expiry] = earned
            snapshot.note_expiry(expiry, account_id)
        else:
            credits[expiry] = <object> found + earned
        holding.balance += earned
    if points:
        (<set> snapshot.changed_accounts).add(account_id)
    return 0


cdef dict holdings_of(dict accounts, str account_id):
    """What an account holds by unit; an unknown one holds nothing."""
    cdef PyObject* found = PyDict_GetItem(accounts, account_id)
    if found == NULL:
        accounts[account_id] = {}
        found = PyDict_GetItem(accounts, account_id)
    return <dict> found


cpdef bint fits(dict holdings, points) except -1:
    """Whether balances stay within 64 bits, with `points` by unit on top, and all that is pending and held."""
    for unit, earned in points:
        holding = holdings.get(unit)
        if holding is not None:
            earned = earned + holding.balance
            if holding.pending or holding.holds:
                earned = earned + max(0, pending_points(holding) + held_points(holding))
        if earned > BALANCE_MAX:
            return False
    return True
