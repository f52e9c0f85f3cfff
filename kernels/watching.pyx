"""What a sale is to those who look back: the counts of the watches, and what the ledger keeps to judge it again.

In: a sale's columns. A watch is a row of bits behind those of the rules (rules.py) and says which lines it counts:

    lines           how many          amount           minor units
    visits          1 if any          quantity_milli   thousandths

Lines of which nothing is left, neither amount nor quantity, are not there. Out: one number per watch; or `member_state.Judged` as JSON.
"""

from array import array

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint64_t

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

    def __init__(self, words, watches):
        """`watches`: row and how to count, one of HOWS, each."""
        self.words, self.watches_n = words, len(watches)
        self.row = array("q", [row for row, _ in watches] or [0])
        self.how = array("q", [HOWS.index(how) for _, how in watches] or [0])

    def counts(
        self, const int64_t[::1] amount, const int64_t[::1] quantity, const uint64_t[::1] line_bits, Py_ssize_t first, Py_ssize_t last
    ):
        """What each watch counts of the lines from `first` up to, but not, `last`; their sums fit 64 bits.

        Raises:
            ValueError: there are no such lines, or the columns' lengths do not fit each other.
        """
        cdef Py_ssize_t k, i
        cdef int64_t count
        cdef list counts = []
        if not 0 <= first <= last <= amount.shape[0] or quantity.shape[0] != amount.shape[0]:
            raise ValueError("first, last: no lines of these columns")
        if line_bits.shape[0] != amount.shape[0] * self.words:
            raise ValueError("line_bits: length does not fit `amount`")
        for k in range(self.watches_n):
            count = 0
            for i in range(first, last):
                if not (line_bits[i * self.words + (self.row[k] >> 6)] >> (self.row[k] & 63)) & 1:
                    continue
                if amount[i] == 0 and quantity[i] == 0:
                    continue
                if self.how[k] == AMOUNT:
                    count += amount[i]
                elif self.how[k] == QUANTITY:
                    count += quantity[i]
                else:
                    count += 1
            counts.append(min(count, 1) if self.how[k] == VISITS else count)
        return counts


cdef class JudgedWriter:
    """Writes what sales were judged by, as msgspec writes `member_state.Judged` without a tender."""

    cdef Text text
    cdef Py_ssize_t words

    def __cinit__(self, words):
        self.text.start = NULL
        self.words = words

    def __dealloc__(self):
        free(self.text.start)

    def write(self, const uint64_t[::1] receipt_bits, const uint64_t[::1] line_bits, Py_ssize_t place, Py_ssize_t first, Py_ssize_t last):
        """The JSON of the sale at `place`, whose lines stand from `first` up to `last`.

        Raises:
            ValueError: the columns have no such sale.
        """
        if not (0 <= place and (place + 1) * self.words <= receipt_bits.shape[0]):
            raise ValueError("place: no such sale")
        if not 0 <= first <= last or last * self.words > line_bits.shape[0]:
            raise ValueError("first, last: no lines of these columns")
        self.text.size = 0
        text_room(&self.text, 64 + (1 + last - first) * self.words * INTEGER_MAX)
        text_object(&self.text, b'{"receipt_bits":[')
        self.write_words(receipt_bits, place * self.words, (place + 1) * self.words)
        if last > first:
            text_object(&self.text, b'],"line_bits":[')
            self.write_words(line_bits, first * self.words, last * self.words)
        text_object(&self.text, b"]}")
        return PyBytes_FromStringAndSize(self.text.start, self.text.size)

    cdef void write_words(self, const uint64_t[::1] bits, Py_ssize_t at, Py_ssize_t end) noexcept:
        cdef Py_ssize_t i
        for i in range(at, end):
            text_natural(&self.text, bits[i])
            text_bytes(&self.text, b",", 1)
        self.text.size -= 1
