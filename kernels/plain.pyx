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
from cpython.dict cimport PyDict_GetItem
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

# The shortest lawful line, with its comma, has more; so a record has no more lines than its bytes by this.
cdef Py_ssize_t LINE_BYTES_MIN = 40
cdef Py_ssize_t LABEL_MAX = 256
# Minutes that are remembered: a year of opening hours. Then they start afresh.
cdef Py_ssize_t MINUTES_MAX = 300_000
cdef Py_ssize_t BYTES_MAX = ROUTED_BYTES_MAX
cdef Py_ssize_t LINES_N_MAX = LINES_MAX
cdef int64_t YEAR_FIRST = YEARS.start, YEAR_END = YEARS.stop


cdef bint is_text(bytes raw):
    """Whether the bytes are UTF-8 throughout, also where nobody looks."""
    if raw.isascii():
        return True
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


cdef str hexadecimal(const char* at, Py_ssize_t size):
    """The first half of a text's SHA-256, as keys.py has it."""
    return sha256(PyBytes_FromStringAndSize(at, size)).hexdigest()[:DIGITS]


cdef class Table:
    """What `rules.Bits` says of values, by their bytes; the words of a missing value, or of the one that is meant without one, apart."""

    cdef object bits
    cdef dict known
    cdef bytes missing

    def __init__(self, bits, missing):
        self.bits = bits
        self.known = {}
        self.missing = bits.words(missing)

    cdef const uint64_t* words(self, Span* value) except NULL:
        cdef bytes raw = PyBytes_FromStringAndSize(value.at, value.size)
        cdef PyObject* found = PyDict_GetItem(self.known, raw)
        if found == NULL:
            if len(self.known) >= VALUES_MAX:
                self.known.clear()
            self.known[raw] = self.bits.words(raw.decode())
            found = PyDict_GetItem(self.known, raw)
        return <const uint64_t*> PyBytes_AS_STRING(<bytes> found)

    cdef const uint64_t* words_if(self, Span* value, bint there) except NULL:
        return self.words(value) if there else <const uint64_t*> PyBytes_AS_STRING(self.missing)


cdef class Minute:
    """One minute with its offset: its local date, the words of that date and of the local minute of the day, and its text in UTC."""

    cdef object day
    cdef str utc
    cdef bytes words

    def __init__(self, day, utc, words):
        self.day = day
        self.utc = utc
        self.words = words


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
        text_object(text, b'{"type":"ledger.posted","specversion":"1.0","id":"')
        text_utf8(text, self.key)
        text_object(text, b'","source":"tillstream/ledger","time":"')
        text_instant(text, &self.issued_at, b"+00:00")
        text_object(text, b'","data":{"posting_id":"')
        text_utf8(text, self.key)
        text_object(text, b'","kind":"sale","account_id":"')
        text_utf8(text, self.account_id)
        text_object(text, b'","source":"')
        text_span(text, &self.source)
        text_object(text, b'","event_id":"')
        text_span(text, &self.id)
        text_object(text, b'","receipt_id":"')
        text_span(text, &self.receipt_id)
        text_object(text, b'","digest":"')
        text_utf8(text, self.digest)
        text_object(text, b'","offset":')
        text_integer(text, self.offset)
        text_object(text, b',"occurred_at":"')
        text_instant(text, &self.issued_at, b"+00:00")
        text_object(text, b'","day":"')
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


cdef class Scanner:
    """Scans records for one program: `compiled` has its rules, `zone` its dates and hours, `currency` what its sales are in."""

    cdef Table skus, categories, brands, kinds, stores
    cdef object dates, minutes_of_day
    cdef readonly object zone
    cdef dict minutes
    cdef bytes currency
    cdef bint judges_skus
    cdef Py_ssize_t words_n
    cdef Text text
    cdef int expected[EXPECTED_MAX]

    def __cinit__(self):
        memset(self.expected, 0, sizeof(self.expected))
        self.text.start = NULL
        self.text.size = self.text.room = 0

    def __init__(self, compiled, zone, str currency):
        self.words_n = compiled.words
        self.skus, self.categories, self.brands = Table(compiled.skus, None), Table(compiled.categories, None), Table(compiled.brands, None)
        self.kinds, self.stores = Table(compiled.kinds, "item"), Table(compiled.stores, None)
        self.dates, self.minutes_of_day, self.zone = compiled.dates, compiled.minutes, zone
        self.judges_skus = compiled.judges_skus
        self.minutes = {}
        self.currency = currency.encode()

    def __dealloc__(self):
        free(self.text.start)

    def scan(self, list raws, list offsets):
        """Per record, at its offset, a `PlainSale`; None where it is to be decoded."""
        cdef Py_ssize_t size = 0, i, n = len(raws)
        cdef list found = []
        for raw in raws:
            size += len(<bytes> raw)
        cdef PlainSales batch = PlainSales(self, n, size // LINE_BYTES_MIN + 1)
        cdef int64_t[::1] first = batch.first, amount = batch.amount, quantity = batch.quantity, line_no = batch.line_no
        cdef uint64_t[::1] receipt_bits = batch.receipt_bits, line_bits = batch.line_bits
        cdef Columns columns
        columns.amount, columns.quantity, columns.line_no, columns.line_bits = &amount[0], &quantity[0], &line_no[0], &line_bits[0]
        for i in range(n):
            columns.lines_n = batch.lines_n
            sale = self.scan_one(<bytes> raws[i], &columns, &receipt_bits[batch.sales_n * self.words_n])
            found.append(sale)
            if sale is not None:
                (<PlainSale> sale).batch, (<PlainSale> sale).place, (<PlainSale> sale).offset = batch, batch.sales_n, offsets[i]
                batch.sales_n += 1
                batch.lines_n = columns.lines_n
                first[batch.sales_n] = batch.lines_n
        return found

    cdef PlainSale scan_one(self, bytes raw, Columns* columns, uint64_t* receipt_bits):
        """One record; its lines go behind those that are in the columns. None: it is no plain sale, and what was written is nothing."""
        cdef Cursor cursor
        cdef Fields fields
        cdef Minute minute
        cdef PlainSale sale
        cdef const uint64_t* words
        cdef const uint64_t* minute_words
        cdef Py_ssize_t w
        cursor.at = PyBytes_AS_STRING(raw)
        cursor.end = cursor.at + PyBytes_GET_SIZE(raw)
        if PyBytes_GET_SIZE(raw) > BYTES_MAX or not is_text(raw) or not self.scan_event(&cursor, &fields, columns):
            return None
        minute = self.minute_of(&fields.issued_at)
        if minute is None:
            return None
        words, minute_words = self.stores.words(&fields.store), <const uint64_t*> PyBytes_AS_STRING(minute.words)
        for w in range(self.words_n):
            receipt_bits[w] = words[w] & minute_words[w]
        sale = PlainSale.__new__(PlainSale)
        sale.raw, sale.day, sale.minute = raw, minute.day, minute
        sale.account_id = PyUnicode_DecodeUTF8(fields.account.at, fields.account.size, NULL)
        sale.id, sale.source, sale.receipt_id, sale.issued_at = fields.id, fields.source, fields.receipt_id, fields.issued_at
        if fields.reply_to.size > 0:
            sale.reply_to = PyUnicode_DecodeUTF8(fields.reply_to.at, fields.reply_to.size, NULL)
        sale.digest = self.digest_of(&fields)
        sale.key = self.key_of(&fields)
        return sale

    cdef bint scan_event(self, Cursor* cursor, Fields* fields, Columns* columns) except -1:
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

    cdef bint scan_sale(self, Cursor* cursor, Fields* fields, Columns* columns) except -1:
        """The data; its lines go into the columns, and their text behind the room for the front."""
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
            and equals(&fields.currency, PyBytes_AS_STRING(self.currency), PyBytes_GET_SIZE(self.currency))
        )

    cdef bint scan_lines(self, Cursor* cursor, Columns* columns) except -1:
        cdef Py_ssize_t first = columns.lines_n
        self.text.size = 0
        text_room(&self.text, FRONT_MAX + 64 + (cursor.end - cursor.at))
        self.text.size = FRONT_MAX
        text_object(&self.text, b'"lines":[')
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
                text_object(&self.text, b",")
            if not passes(cursor, c"]"):
                return False
        text_object(&self.text, b"]}")
        return True

    cdef bint scan_line(self, Cursor* cursor, Columns* columns) except -1:
        """One line: into the columns, and behind the text."""
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
        write_line(&self.text, &line)
        return True

    cdef int fill(self, uint64_t* into, Line* line) except -1:
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

    cdef Minute minute_of(self, Span* instant):
        """The minute that an instant is in; None where the zone's offset then had seconds, as Liberia's had until 1972."""
        cdef bytes text = PyBytes_FromStringAndSize(instant.at, 16) + PyBytes_FromStringAndSize(instant.at + 19, instant.size - 19)
        cdef PyObject* found = PyDict_GetItem(self.minutes, text)
        if found != NULL:
            return <object> found
        if len(self.minutes) >= MINUTES_MAX:
            self.minutes.clear()
        known = text.decode()
        local = datetime.fromisoformat(known[:16] + ":00" + known[16:]).astimezone(self.zone)
        minute = None
        if local.utcoffset().total_seconds() % 60 == 0:
            dates = int.from_bytes(self.dates.words(local.date()), "little")
            minutes = int.from_bytes(self.minutes_of_day.words(local.hour * 60 + local.minute), "little")
            utc = local.astimezone(UTC).isoformat()[:17]
            minute = Minute(local.date(), utc, (dates & minutes).to_bytes(8 * self.words_n, "little"))
        self.minutes[text] = minute
        return minute

    cdef str digest_of(self, Fields* fields):
        """`keys.digest_of`: the front is written to the beginning of the text and then moved in front of the lines."""
        cdef Text* text = &self.text
        cdef Py_ssize_t end = text.size, i
        text.size = 0
        text_object(text, b'SaleEvent\0{"receipt_id":"')
        text_span(text, &fields.receipt_id)
        text_object(text, b'","store_id":"')
        text_span(text, &fields.store)
        text_object(text, b'","register_id":"')
        text_span(text, &fields.register)
        text_object(text, b'","business_date":"')
        text_span(text, &fields.business_date)
        text_object(text, b'","issued_at":"')
        text_instant(text, &fields.issued_at, b"Z")
        text_object(text, b'","currency":"')
        text_span(text, &fields.currency)
        if fields.member:
            text_object(text, b'","member":{"scheme":"')
            text_span(text, &fields.scheme)
            text_object(text, b'","value":"')
            text_span(text, &fields.value)
            text_object(text, b'"},')
        else:
            text_object(text, b'",')
        if fields.tenders_n:
            text_object(text, b'"tenders":[')
            for i in range(fields.tenders_n):
                text_object(text, b'{"type":"')
                text_span(text, &fields.tender_type[i])
                text_object(text, b'","amount":')
                text_span(text, &fields.tender_amount[i])
                text_object(text, b"},")
            text.size -= 1
            text_object(text, b"],")
        cdef char* start = text.start + FRONT_MAX - text.size
        memmove(start, text.start, text.size)
        return hexadecimal(start, text.start + end - start)

    cdef str key_of(self, Fields* fields):
        """`keys.natural_key` of a sale."""
        cdef Text* text = &self.text
        text.size = 0
        text_object(text, b'receipt\0["')
        text_span(text, &fields.source)
        text_object(text, b'","')
        text_span(text, &fields.receipt_id)
        text_object(text, b'",false]')
        return hexadecimal(text.start, text.size)
