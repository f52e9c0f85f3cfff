"""Plain sales, from their bytes straight into columns: no object per line, none per field.

In: the records that `identify` routed. Out, per record, a `PlainSale` or None, which says nothing against the record but that it is to be
decoded (docs/adr/0012). What is scanned is a strict part of what `schemas.events.decode` takes, so that both ways say the same:

    a sale with an account, in the program's currency, without a points tender; line numbers that rise; whole seconds
    strings without escapes, integers of at most 18 digits; fields in any order, none twice; unknown ones are strings or integers

The columns are those of `columns.gather`, the natural key and the digest those of keys.py: the digest's text is put together here from
pieces of the record, in the order in which msgspec would write the decoded data.
"""

from array import array
from datetime import UTC, date, datetime
from hashlib import sha256

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_DecodeASCII, PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint64_t

from tillstream.kernels.columns import Columns as Gathered
from tillstream.kernels.keys import DIGITS
from tillstream.kernels.rules import VALUES_MAX
from tillstream.schemas.events import ROUTED_BYTES_MAX, YEARS, decode
from tillstream.schemas.receipts import LINES_MAX

include "text.pxi"
include "scan.pxi"
include "sale.pxi"
include "table.pxi"

# The shortest lawful line, with its comma, has more; so a record has no more lines than its bytes by this.
cdef Py_ssize_t LINE_BYTES_MIN = 40
cdef Py_ssize_t LABEL_MAX = 256
cdef Py_ssize_t BYTES_MAX = ROUTED_BYTES_MAX
cdef Py_ssize_t LINES_N_MAX = LINES_MAX
cdef int64_t YEAR_FIRST = YEARS.start, YEAR_END = YEARS.stop


cdef str hexadecimal(const char* at, Py_ssize_t size):
    """The first half of a text's SHA-256, as keys.py has it."""
    return sha256(PyBytes_FromStringAndSize(at, size)).hexdigest()[:DIGITS]


cdef class PlainSale:
    """A sale that only earns, scanned: what `routed.Routed` says of an event, decoded only where somebody asks for the event itself."""

    cdef readonly str account_id, key, digest
    # Who listens for a reply; None: nobody asked.
    cdef readonly str reply_to
    cdef readonly bytes raw
    cdef readonly int64_t offset
    cdef readonly object day
    cdef readonly Py_ssize_t place
    cdef readonly PlainSales batch
    cdef Minute minute
    cdef Span id, source, receipt_id, issued_at

    @property
    def sale_key(self):
        return self.key

    @property
    def event(self):
        return decode(self.raw, ROUTED_BYTES_MAX)

    @property
    def issued_on(self):
        """The date of `issued_at`, as the till has it."""
        return date.fromisoformat(PyUnicode_DecodeASCII(self.issued_at.at, 10, NULL))

    @property
    def instant(self):
        """When it was, as `fold.instant_text` has it; plain sales are of whole seconds."""
        return self.minute.utc + PyUnicode_DecodeASCII(self.issued_at.at + 17, 2, NULL) + ".000000"

    @property
    def occurred_at(self):
        """The same with the till's offset, as `datetime.isoformat` has it."""
        if self.issued_at.at[self.issued_at.size - 1] == c"Z":
            return PyUnicode_DecodeASCII(self.issued_at.at, self.issued_at.size - 1, NULL) + "+00:00"
        return PyUnicode_DecodeASCII(self.issued_at.at, self.issued_at.size, NULL)

    def head(self, bytes day, bytes behind_day):
        """Its ledger record up to its lines, as `writing.SaleWriter` has it."""
        cdef Text* text = &self.batch.scanner.text
        text.size = 0
        text_room(text, 1024 + 6 * LABEL_MAX + 6 * len(self.account_id) + len(day) + len(behind_day))
        text_literal(text, b'{"type":"ledger.posted","specversion":"1.0","id":"')
        text_utf8(text, self.key)
        text_literal(text, b'","source":"tillstream/ledger","time":"')
        text_instant(text, &self.issued_at, "+00:00")
        text_literal(text, b'","data":{"posting_id":"')
        text_utf8(text, self.key)
        text_literal(text, b'","kind":"sale","account_id":"')
        text_utf8(text, self.account_id)
        text_literal(text, b'","source":"')
        text_span(text, &self.source)
        text_literal(text, b'","event_id":"')
        text_span(text, &self.id)
        text_literal(text, b'","receipt_id":"')
        text_span(text, &self.receipt_id)
        text_literal(text, b'","digest":"')
        text_utf8(text, self.digest)
        text_literal(text, b'","offset":')
        text_integer(text, self.offset)
        text_literal(text, b',"occurred_at":"')
        text_instant(text, &self.issued_at, "+00:00")
        text_literal(text, b'","day":"')
        text_object(text, day)
        text_object(text, behind_day)
        return PyBytes_FromStringAndSize(text.start, text.size)


cdef class PlainSales:
    """The columns of the plain sales of one batch, by their `place`, and what the rules give them."""

    cdef readonly Scanner scanner
    cdef object first, receipt_bits, amount, quantity, line_no, line_bits
    cdef Py_ssize_t sales_n, lines_n
    cdef object awarded

    def __init__(self, Scanner scanner, Py_ssize_t sales_max, Py_ssize_t lines_max):
        cdef Py_ssize_t words = scanner.words_n
        self.scanner = scanner
        self.first, self.receipt_bits = array("q", bytes(8 * (sales_max + 1))), array("Q", bytes(8 * words * sales_max))
        self.amount, self.quantity, self.line_no = (array("q", bytes(8 * lines_max)) for _ in range(3))
        self.line_bits = array("Q", bytes(8 * words * lines_max))

    def columns(self):
        """The arguments of `award.Kernel.award` in their order."""
        cdef Py_ssize_t n = self.sales_n, lines = self.lines_n, words = self.scanner.words_n
        by_line = [memoryview(column)[:lines] for column in (self.amount, self.quantity, self.line_no)]
        tender, receipt_bits, line_bits = array("q", bytes(8 * n)), memoryview(self.receipt_bits), memoryview(self.line_bits)
        return [memoryview(self.first)[: n + 1], tender, receipt_bits[: n * words], *by_line, line_bits[: lines * words]]

    def part(self, Py_ssize_t place, Py_ssize_t n, list dates):
        """The `n` sales from `place` on, of these local dates, as `columns.gather` has them."""
        cdef Py_ssize_t words = self.scanner.words_n, i
        if not 0 <= place <= place + n <= self.sales_n:
            raise IndexError(place)
        cdef const int64_t[::1] first = self.first
        cdef Py_ssize_t start = first[place], end = first[place + n]
        rebased = array("q", bytes(8 * (n + 1)))
        cdef int64_t[::1] into = rebased
        for i in range(n + 1):
            into[i] = first[place + i] - start
        tender, receipt_bits = array("q", bytes(8 * n)), self.receipt_bits[place * words : (place + n) * words]
        by_line = [column[start:end] for column in (self.amount, self.quantity, self.line_no)]
        return Gathered(rebased, tender, receipt_bits, *by_line, self.line_bits[start * words : end * words], dates)

    def awards(self, kernel):
        """What `kernel` gives them all; judged once."""
        if self.awarded is None:
            self.awarded = kernel.award(*self.columns())
        return self.awarded


cdef struct Found:
    # What scanning one record found: its fields, its minute, and where in the scanner's text stands what its digest and its key are made of.
    Cursor cursor
    Fields fields
    PyObject* minute
    Py_ssize_t digest_from, key_from, key_to
    bint plain


cdef class Scanner:
    """Scans records for one program, one batch at a time: `compiled` has its rules, `zone` its dates and hours, `currency` what its sales
    are in.
    """

    cdef Table skus, categories, brands, kinds, stores
    cdef Minutes minutes
    cdef readonly object zone
    cdef bytes currency
    cdef Span wanted_currency
    cdef bint judges_skus
    cdef Py_ssize_t words_n
    cdef Text text, lines
    cdef Found* found
    cdef Py_ssize_t found_room
    cdef int expected[EXPECTED_MAX]

    def __cinit__(self):
        memset(self.expected, 0, sizeof(self.expected))
        self.text.start = self.lines.start = NULL
        self.text.size = self.text.room = self.lines.size = self.lines.room = 0
        self.found, self.found_room = NULL, 0

    def __init__(self, compiled, zone, str currency):
        self.words_n = compiled.words
        self.skus, self.categories, self.brands = Table(compiled.skus, None), Table(compiled.categories, None), Table(compiled.brands, None)
        self.kinds, self.stores = Table(compiled.kinds, "item"), Table(compiled.stores, None)
        self.minutes, self.zone = Minutes(compiled, zone), zone
        self.judges_skus = compiled.judges_skus
        self.currency = currency.encode()
        self.wanted_currency.at, self.wanted_currency.size = PyBytes_AS_STRING(self.currency), len(self.currency)

    def __dealloc__(self):
        free(self.text.start)
        free(self.lines.start)
        free(self.found)

    def scan(self, list raws, list offsets):
        """Per record, at its offset, a `PlainSale`; None where it is to be decoded."""
        cdef Py_ssize_t size = 0, i, place = 0, n = len(raws)
        cdef list sales = []
        self.take_room(n)
        for i in range(n):
            raw = <bytes> raws[i]
            self.found[i].cursor.at = PyBytes_AS_STRING(raw)
            self.found[i].cursor.end = self.found[i].cursor.at + PyBytes_GET_SIZE(raw)
            size += PyBytes_GET_SIZE(raw)
        cdef PlainSales batch = PlainSales(self, n, size // LINE_BYTES_MIN + 1)
        if n:
            self.scan_all(batch, n)
        for i in range(n):
            if self.found[i].plain:
                sales.append(self.sale_of(batch, &self.found[i], place, raws[i], offsets[i]))
                place += 1
            else:
                sales.append(None)
        return sales

    cdef int take_room(self, Py_ssize_t n) except -1:
        if n > self.found_room:
            larger = <Found*> realloc(self.found, n * sizeof(Found))
            if larger == NULL:
                raise MemoryError
            self.found, self.found_room = larger, n
        return 0

    cdef int scan_all(self, PlainSales batch, Py_ssize_t n) except -1:
        """Fills the columns and `found`. Once for the whole batch: other threads, the writer above all, go on meanwhile."""
        cdef int64_t[::1] first = batch.first, amount = batch.amount, quantity = batch.quantity, line_no = batch.line_no
        cdef uint64_t[::1] receipt_bits = batch.receipt_bits, line_bits = batch.line_bits
        cdef Columns columns
        cdef Py_ssize_t i, sales_n = 0
        columns.amount, columns.quantity, columns.line_no, columns.line_bits = &amount[0], &quantity[0], &line_no[0], &line_bits[0]
        self.text.size = 0
        with nogil:
            for i in range(n):
                columns.lines_n = first[sales_n]
                self.found[i].plain = self.scan_one(&self.found[i], &columns, &receipt_bits[sales_n * self.words_n])
                if self.found[i].plain:
                    sales_n += 1
                    first[sales_n] = columns.lines_n
        batch.sales_n, batch.lines_n = sales_n, first[sales_n]
        return 0

    cdef PlainSale sale_of(self, PlainSales batch, Found* found, Py_ssize_t place, bytes raw, int64_t offset):
        cdef Fields* fields = &found.fields
        cdef PlainSale sale = PlainSale.__new__(PlainSale)
        sale.batch, sale.place, sale.raw, sale.offset = batch, place, raw, offset
        sale.minute = <Minute> found.minute
        sale.day = sale.minute.day
        sale.account_id = PyUnicode_DecodeUTF8(fields.account.at, fields.account.size, NULL)
        sale.id, sale.source, sale.receipt_id, sale.issued_at = fields.id, fields.source, fields.receipt_id, fields.issued_at
        if fields.reply_to.size > 0:
            sale.reply_to = PyUnicode_DecodeUTF8(fields.reply_to.at, fields.reply_to.size, NULL)
        sale.digest = hexadecimal(self.text.start + found.digest_from, found.key_from - found.digest_from)
        sale.key = hexadecimal(self.text.start + found.key_from, found.key_to - found.key_from)
        return sale

    cdef bint scan_one(self, Found* found, Columns* columns, uint64_t* receipt_bits) except -1 nogil:
        """One record; its lines go behind those that are in the columns. False: it is no plain sale, and what was written is nothing."""
        cdef Cursor* cursor = &found.cursor
        cdef Fields* fields = &found.fields
        cdef MinuteSlot* minute
        cdef const uint64_t* words
        cdef Py_ssize_t w, size = cursor.end - cursor.at
        if size > BYTES_MAX or not is_text(cursor.at, size) or not self.scan_event(cursor, fields, columns):
            return False
        minute = self.minutes.slot_of(&fields.issued_at)
        if minute.words == NULL:
            return False
        found.minute = minute.minute
        words = self.stores.words(&fields.store)
        for w in range(self.words_n):
            receipt_bits[w] = words[w] & minute.words[w]
        text_room(&self.text, 2 * FRONT_MAX + self.lines.size)
        found.digest_from = self.text.size
        write_data(&self.text, fields, &self.lines)
        found.key_from = self.text.size
        write_key(&self.text, fields)
        found.key_to = self.text.size
        return True

    cdef bint scan_event(self, Cursor* cursor, Fields* fields, Columns* columns) except -1 nogil:
        """The envelope, from its first brace to the end of the record."""
        cdef Span name, text
        cdef int seen = 0, field
        fields.tenders_n = 0
        fields.member = False
        fields.reply_to.size = 0
        if not passes(cursor, c"{"):
            return False
        while True:
            if not named(cursor, &name):
                return False
            field = event_field(&name)
            if field < 0 or field & seen:
                return False
            seen |= field
            if field == DATA:
                if not self.scan_sale(cursor, fields, columns):
                    return False
            elif field == 0:
                if not passed_over(cursor):
                    return False
            elif not string(cursor, &text):
                return False
            elif field == ACCOUNT:
                fields.account = text
            elif field == ID:
                fields.id = text
            elif field == SOURCE:
                fields.source = text
            elif field == REPLY_TO:
                if not is_identifier(&text):
                    return False
                fields.reply_to = text
            elif field == TIME and not is_instant(&text):
                return False
            elif field == SPECVERSION and not equals(&text, b"1.0", 3):
                return False
            elif field == TYPE and not equals(&text, b"receipt.sale", 12):
                return False
            if not passes(cursor, c","):
                break
        if not passes(cursor, c"}") or not ended(cursor) or seen & EVENT_ALL != EVENT_ALL:
            return False
        return is_identifier(&fields.id) and is_identifier(&fields.source)

    cdef bint scan_sale(self, Cursor* cursor, Fields* fields, Columns* columns) except -1 nogil:
        """The data; its lines go into the columns, and their text into `lines`."""
        cdef Span name
        cdef int seen = 0, field
        if not passes(cursor, c"{"):
            return False
        while True:
            if not named(cursor, &name):
                return False
            field = sale_field(&name)
            if field & seen:
                return False
            seen |= field
            if field == LINES:
                if not self.scan_lines(cursor, columns):
                    return False
            elif field == MEMBER:
                if not scan_member(cursor, fields):
                    return False
            elif field == TENDERS:
                if not scan_tenders(cursor, fields):
                    return False
            elif field == 0:
                if not passed_over(cursor):
                    return False
            elif not string(cursor, span_of(fields, field)):
                return False
            if not passes(cursor, c","):
                break
        return (
            passes(cursor, c"}") and seen & SALE_ALL == SALE_ALL
            and is_identifier(&fields.receipt_id) and is_identifier(&fields.store) and is_identifier(&fields.register)
            and fields.business_date.size == 10 and is_date(fields.business_date.at) and is_instant(&fields.issued_at)
            and equals(&fields.currency, self.wanted_currency.at, self.wanted_currency.size)
        )

    cdef bint scan_lines(self, Cursor* cursor, Columns* columns) except -1 nogil:
        cdef Py_ssize_t first = columns.lines_n
        self.lines.size = 0
        text_room(&self.lines, 64 + (cursor.end - cursor.at))
        text_literal(&self.lines, b'"lines":[')
        if not passes(cursor, c"["):
            return False
        if not passes(cursor, c"]"):
            while True:
                if columns.lines_n - first == LINES_N_MAX or not self.scan_line(cursor, columns):
                    return False
                if columns.lines_n > first and columns.line_no[columns.lines_n] <= columns.line_no[columns.lines_n - 1]:
                    return False
                columns.lines_n += 1
                if not passes(cursor, c","):
                    break
                text_literal(&self.lines, b",")
            if not passes(cursor, c"]"):
                return False
        text_literal(&self.lines, b"]}")
        return True

    cdef bint scan_line(self, Cursor* cursor, Columns* columns) except -1 nogil:
        """One line: into the columns, and as text."""
        cdef Line line
        cdef int field, place = 0
        memset(&line, 0, sizeof(Line))
        if not passes(cursor, c"{"):
            return False
        while True:
            field = next_line_field(cursor, &self.expected[place])
            place = min(place + 1, EXPECTED_MAX - 1)
            if field < 0 or field & line.seen or not scan_line_field(cursor, field, &line, columns):
                return False
            if not passes(cursor, c","):
                break
        if not passes(cursor, c"}") or line.seen & LINE_ALL != LINE_ALL:
            return False
        self.fill(&columns.line_bits[columns.lines_n * self.words_n], &line)
        write_line(&self.lines, &line)
        return True

    cdef int fill(self, uint64_t* into, Line* line) except -1 nogil:
        """The words of one line."""
        cdef const uint64_t* categories = self.categories.words_if(&line.category, line.seen & CATEGORY)
        cdef const uint64_t* brands = self.brands.words_if(&line.brand, line.seen & BRAND)
        cdef const uint64_t* kinds = self.kinds.words_if(&line.kind, line.seen & KIND)
        cdef const uint64_t* skus
        cdef Py_ssize_t w
        for w in range(self.words_n):
            into[w] = categories[w] & brands[w] & kinds[w]
        if self.judges_skus:
            skus = self.skus.words(&line.sku)
            for w in range(self.words_n):
                into[w] &= skus[w]
        return 0
