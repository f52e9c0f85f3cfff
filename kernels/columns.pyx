"""Sales into columns: typed receipts in, the arrays of `award.Kernel` out.

The one loop that must touch Python objects per line; so it does nothing but read fields and `and` together the remembered bits of their
values (see `rules.Bits`).
"""

from array import array
from typing import NamedTuple

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t


class Columns(NamedTuple):
    """The arguments of `award.Kernel.award` in their order, and each receipt's local date."""

    first: array
    tender: array
    receipt_bits: array
    amount: array
    quantity: array
    line_no: array
    line_bits: array
    dates: list


cdef class Table:
    """Quick look-ups in one `rules.Bits`."""

    cdef object bits
    cdef dict known
    cdef Py_ssize_t words

    def __init__(self, bits, words):
        self.bits = bits
        self.known = bits.known
        self.words = words

    cdef int fill(self, object value, uint64_t* into, bint first) except -1:
        """Sets (`first`) or narrows the words at `into` by those of `value`."""
        cdef PyObject* found = PyDict_GetItem(self.known, value)
        cdef bytes words = <bytes> found if found != NULL else self.bits.words(value)
        cdef const uint64_t* source = <const uint64_t*> PyBytes_AS_STRING(words)
        cdef Py_ssize_t w
        for w in range(self.words):
            into[w] = source[w] if first else into[w] & source[w]
        return 0


def gather(compiled, list sales, zone):
    """The columns of `sales`, `schemas.receipts.Sale` each, with dates and hours in `zone`."""
    cdef Py_ssize_t words = compiled.words, lines_n = 0, i = 0, r, n = len(sales)
    cdef Table skus = Table(compiled.skus, words), categories = Table(compiled.categories, words)
    cdef Table brands = Table(compiled.brands, words), kinds = Table(compiled.kinds, words)
    cdef Table stores = Table(compiled.stores, words), dates = Table(compiled.dates, words), minutes = Table(compiled.minutes, words)
    cdef bint judges_skus = compiled.judges_skus
    for sale in sales:
        lines_n += len(sale.lines)
    columns = Columns(
        array("q", bytes(8 * (n + 1))), array("q", bytes(8 * n)), array("Q", bytes(8 * n * words)), array("q", bytes(8 * lines_n)),
        array("q", bytes(8 * lines_n)), array("q", bytes(8 * lines_n)), array("Q", bytes(8 * lines_n * words)), [],
    )
    if n == 0:
        return columns
    cdef int64_t[::1] first = columns.first, tender = columns.tender
    cdef int64_t[::1] amount = columns.amount, quantity = columns.quantity, line_no = columns.line_no
    cdef uint64_t[::1] receipt_bits = columns.receipt_bits, line_bits = columns.line_bits
    cdef uint64_t* bits
    cdef list lines
    for r in range(n):
        sale = sales[r]
        local = sale.issued_at.astimezone(zone)
        day = local.date()
        columns.dates.append(day)
        bits = &receipt_bits[r * words]
        stores.fill(sale.store_id, bits, True)
        dates.fill(day, bits, False)
        minutes.fill(local.hour * 60 + local.minute, bits, False)
        tender[r] = points_tender(sale.tenders)
        lines = sale.lines
        for line in lines:
            amount[i] = line.amount
            quantity[i] = line.quantity_milli
            line_no[i] = line.line_no
            bits = &line_bits[i * words]
            categories.fill(line.category, bits, True)
            brands.fill(line.brand, bits, False)
            kinds.fill(line.kind, bits, False)
            if judges_skus:
                skus.fill(line.sku, bits, False)
            i += 1
        first[r + 1] = i
    return columns


cdef int64_t points_tender(list tenders) except -1:
    """Minor units paid with points; that they stay within the receipt's total was checked on decoding."""
    cdef int64_t paid = 0
    for tender in tenders:
        if tender.type == "points":
            paid += tender.amount
    return paid
