"""What a sale is to those who look back: the counts of the watches, and what the ledger keeps to judge it again.

In: a sale's columns. A watch is a row of bits behind those of the rules (rules.py) and says which lines it counts:

    lines           how many          amount           minor units
    visits          1 if any          quantity_milli   thousandths

Lines of which nothing is left, neither amount nor quantity, are not there. Out: one number per watch; or `member_state.Judged` as JSON.
"""

from array import array

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint64_t

from msgspec.json import encode

include "text.pxi"

HOWS = ("lines", "amount", "quantity_milli", "visits")

cdef enum How:
    LINES = 0
    AMOUNT = 1
    QUANTITY = 2
    VISITS = 3


cdef class Watching:
    """The watches of one program: the rows of their bits, and how each counts."""

    cdef const int64_t[::1] row, how
    cdef Py_ssize_t words, watches_n
    cdef bytes others

    def __init__(self, words, watches, others):
        """`watches`: row and how to count, one of HOWS, each; `others`: the ids of those of other versions, which come last."""
        self.others = (b',"others":' + encode(others) if others else b"") + b"}"
        self.words, self.watches_n = words, len(watches)
        self.row = array("q", [row for row, _ in watches] or [0])
        self.how = array("q", [HOWS.index(how) for _, how in watches] or [0])

    def over(self, columns):
        """The sales in `columns` (columns.py), to be asked one by one.

        Raises:
            ValueError: the columns' lengths do not fit each other.
        """
        cdef Watched watched = Watched()
        watched.watching = self
        watched.first, watched.amount, watched.quantity = columns.first, columns.amount, columns.quantity
        watched.receipt_bits, watched.line_bits = columns.receipt_bits, columns.line_bits
        cdef Py_ssize_t n = watched.first.shape[0] - 1, lines = watched.amount.shape[0], r
        if n < 0 or watched.first[0] != 0 or watched.first[n] != lines or watched.quantity.shape[0] != lines:
            raise ValueError("first, amount, quantity: lengths do not fit")
        for r in range(n):
            if watched.first[r + 1] < watched.first[r]:
                raise ValueError("first: must rise")
        if watched.receipt_bits.shape[0] != n * self.words or watched.line_bits.shape[0] != lines * self.words:
            raise ValueError("receipt_bits, line_bits: lengths do not fit")
        watched.sales_n = n
        return watched


cdef class Watched:
    """The sales of one batch; their sums fit 64 bits, or the award kernel has refused them."""

    cdef Watching watching
    cdef const int64_t[::1] first, amount, quantity
    cdef const uint64_t[::1] receipt_bits, line_bits
    cdef Py_ssize_t sales_n
    cdef Text text

    def __cinit__(self):
        self.text.start = NULL

    def __dealloc__(self):
        free(self.text.start)

    cdef int check(self, Py_ssize_t place) except -1:
        if not 0 <= place < self.sales_n:
            raise IndexError(place)
        return 0

    def total(self, Py_ssize_t place):
        """What the lines of a sale come to."""
        cdef Py_ssize_t i
        cdef int64_t total = 0
        self.check(place)
        for i in range(self.first[place], self.first[place + 1]):
            total += self.amount[i]
        return total

    def counts(self, Py_ssize_t place):
        """What each watch counts of a sale."""
        cdef Py_ssize_t k
        self.check(place)
        return [self.count(k, self.first[place], self.first[place + 1]) for k in range(self.watching.watches_n)]

    cdef int64_t count(self, Py_ssize_t k, Py_ssize_t first, Py_ssize_t last) noexcept:
        cdef Py_ssize_t i, words = self.watching.words, word = self.watching.row[k] >> 6
        cdef int shift = self.watching.row[k] & 63
        cdef int64_t how = self.watching.how[k], count = 0
        for i in range(first, last):
            if not (self.line_bits[i * words + word] >> shift) & 1 or (self.amount[i] == 0 and self.quantity[i] == 0):
                continue
            if how == AMOUNT:
                count += self.amount[i]
            elif how == QUANTITY:
                count += self.quantity[i]
            else:
                count += 1
        return 1 if how == VISITS and count else count

    def judged(self, Py_ssize_t place):
        """What a sale without a points tender is judged by, as msgspec writes `member_state.Judged`."""
        cdef Py_ssize_t words = self.watching.words, first, last
        cdef bytes others = self.watching.others
        self.check(place)
        first, last = self.first[place], self.first[place + 1]
        self.text.size = 0
        text_room(&self.text, 64 + len(others) + (1 + last - first) * words * INTEGER_MAX)
        text_literal(&self.text, b'{"receipt_bits":[')
        self.write_words(self.receipt_bits, place * words, (place + 1) * words)
        if last > first:
            text_literal(&self.text, b'],"line_bits":[')
            self.write_words(self.line_bits, first * words, last * words)
        text_literal(&self.text, b"]")
        text_bytes(&self.text, others, len(others))
        return PyBytes_FromStringAndSize(self.text.start, self.text.size)

    cdef void write_words(self, const uint64_t[::1] bits, Py_ssize_t at, Py_ssize_t end) noexcept:
        cdef Py_ssize_t i
        for i in range(at, end):
            text_natural(&self.text, bits[i])
            text_bytes(&self.text, b",", 1)
        self.text.size -= 1
