# A plain sale's fields, for plain.pyx: their names, what each may hold, and how msgspec would write a line. A field is a bit, so that one
# number tells which were seen: none may come twice, and none that is required may be missing.

cdef enum:
    TENDERS_MAX = 8
    # What is said in front of the lines: ten strings and eight tenders' types of at most 256 characters, and 1,024 for their names.
    FRONT_MAX = 5632

cdef enum:
    # The fields seen of an object, a bit each.
    SPECVERSION = 1
    ID = 2
    SOURCE = 4
    TYPE = 8
    TIME = 16
    ACCOUNT = 32
    DATA = 64
    EVENT_ALL = 127
    REPLY_TO = 128

cdef enum:
    RECEIPT_ID = 1
    STORE = 2
    REGISTER = 4
    BUSINESS_DATE = 8
    ISSUED_AT = 16
    CURRENCY = 32
    LINES = 64
    SALE_ALL = 127
    MEMBER = 128
    TENDERS = 256

cdef enum:
    LINE_NO = 1
    SKU = 2
    QUANTITY = 4
    AMOUNT = 8
    LINE_ALL = 15
    CATEGORY = 16
    BRAND = 32
    DISCOUNT = 64
    KIND = 128

cdef enum:
    SCHEME = 1
    VALUE = 2

cdef enum:
    # A line has eight fields that we know, and perhaps some more.
    EXPECTED_MAX = 12

cdef enum:
    TENDER_TYPE = 1
    TENDER_AMOUNT = 2


cdef struct Fields:
    # One sale's fields, as pieces of its record.
    Span account, id, source, reply_to
    Span receipt_id, store, register, business_date, issued_at, currency, scheme, value
    Span tender_type[TENDERS_MAX]
    Span tender_amount[TENDERS_MAX]
    Py_ssize_t tenders_n
    bint member


cdef struct Line:
    # One line's fields; `reduced` is the value of `discount`.
    Span line_no, sku, quantity, amount, category, brand, discount, kind
    int64_t reduced
    int seen


cdef struct Columns:
    # Where the columns of lines are, and how many lines are in them.
    int64_t* amount
    int64_t* quantity
    int64_t* line_no
    uint64_t* line_bits
    Py_ssize_t lines_n


cdef int event_field(const Span* name) noexcept nogil:
    """0: an unknown field; negative: one that makes the event no plain sale."""
    if equals(name, b"specversion", 11):
        return SPECVERSION
    if equals(name, b"id", 2):
        return ID
    if equals(name, b"source", 6):
        return SOURCE
    if equals(name, b"type", 4):
        return TYPE
    if equals(name, b"time", 4):
        return TIME
    if equals(name, b"accountid", 9):
        return ACCOUNT
    if equals(name, b"data", 4):
        return DATA
    if equals(name, b"replyto", 7):
        return REPLY_TO
    return -1 if equals(name, b"recalled", 8) else 0


cdef int sale_field(const Span* name) noexcept nogil:
    """0: an unknown field."""
    if equals(name, b"receipt_id", 10):
        return RECEIPT_ID
    if equals(name, b"store_id", 8):
        return STORE
    if equals(name, b"register_id", 11):
        return REGISTER
    if equals(name, b"business_date", 13):
        return BUSINESS_DATE
    if equals(name, b"issued_at", 9):
        return ISSUED_AT
    if equals(name, b"currency", 8):
        return CURRENCY
    if equals(name, b"member", 6):
        return MEMBER
    if equals(name, b"tenders", 7):
        return TENDERS
    return LINES if equals(name, b"lines", 5) else 0


cdef Span* span_of(Fields* fields, int field) noexcept nogil:
    """Where a field of the sale that is a string goes."""
    if field == RECEIPT_ID:
        return &fields.receipt_id
    if field == STORE:
        return &fields.store
    if field == REGISTER:
        return &fields.register
    if field == BUSINESS_DATE:
        return &fields.business_date
    return &fields.issued_at if field == ISSUED_AT else &fields.currency


cdef int line_field(const Span* name) noexcept nogil:
    """0: an unknown field."""
    if equals(name, b"line_no", 7):
        return LINE_NO
    if equals(name, b"sku", 3):
        return SKU
    if equals(name, b"category", 8):
        return CATEGORY
    if equals(name, b"quantity_milli", 14):
        return QUANTITY
    if equals(name, b"amount", 6):
        return AMOUNT
    if equals(name, b"brand", 5):
        return BRAND
    if equals(name, b"discount", 8):
        return DISCOUNT
    return KIND if equals(name, b"kind", 4) else 0


cdef int next_line_field(Cursor* cursor, int* expected) noexcept nogil:
    """The field whose name and colon come next; negative where none does.

    Tills write every line alike: what stood here last time is tried first, and what stands here is remembered.
    """
    cdef Span name
    if expected[0] == SKU and begins(cursor, b'"sku":', 6):
        return SKU
    if expected[0] == LINE_NO and begins(cursor, b'"line_no":', 10):
        return LINE_NO
    if expected[0] == CATEGORY and begins(cursor, b'"category":', 11):
        return CATEGORY
    if expected[0] == QUANTITY and begins(cursor, b'"quantity_milli":', 17):
        return QUANTITY
    if expected[0] == AMOUNT and begins(cursor, b'"amount":', 9):
        return AMOUNT
    if not named(cursor, &name):
        return -1
    expected[0] = line_field(&name)
    return expected[0]


cdef bint is_kind(const Span* kind) noexcept nogil:
    return (
        equals(kind, b"item", 4) or equals(kind, b"deposit", 7) or equals(kind, b"gift_card", 9)
        or equals(kind, b"service", 7) or equals(kind, b"fee", 3)
    )


cdef bint is_scheme(const Span* scheme) noexcept nogil:
    return (
        equals(scheme, b"card", 4) or equals(scheme, b"phone", 5) or equals(scheme, b"email", 5) or equals(scheme, b"app", 3)
        or equals(scheme, b"nfc", 3) or equals(scheme, b"barcode", 7) or equals(scheme, b"member", 6)
    )


cdef bint scan_member(Cursor* cursor, Fields* fields) noexcept nogil:
    """An identity, of its two fields only."""
    cdef Span name
    cdef int seen = 0
    fields.member = True
    if not passes(cursor, c"{"):
        return False
    while True:
        if not named(cursor, &name):
            return False
        if equals(&name, b"scheme", 6) and not seen & SCHEME and string(cursor, &fields.scheme) and is_scheme(&fields.scheme):
            seen |= SCHEME
        elif equals(&name, b"value", 5) and not seen & VALUE and string(cursor, &fields.value) and is_identifier(&fields.value):
            seen |= VALUE
        else:
            return False
        if not passes(cursor, c","):
            break
    return seen == SCHEME + VALUE and passes(cursor, c"}")


cdef bint scan_tenders(Cursor* cursor, Fields* fields) noexcept nogil:
    """A few tenders that are not points, of a type and an amount only."""
    if not passes(cursor, c"["):
        return False
    if passes(cursor, c"]"):
        return True
    while fields.tenders_n < TENDERS_MAX:
        if not scan_tender(cursor, &fields.tender_type[fields.tenders_n], &fields.tender_amount[fields.tenders_n]):
            return False
        fields.tenders_n += 1
        if not passes(cursor, c","):
            return passes(cursor, c"]")
    return False


cdef bint scan_tender(Cursor* cursor, Span* type, Span* amount) noexcept nogil:
    cdef Span name
    cdef int64_t value
    cdef int seen = 0
    if not passes(cursor, c"{"):
        return False
    while True:
        if not named(cursor, &name):
            return False
        if equals(&name, b"type", 4) and not seen & TENDER_TYPE and string(cursor, type) and is_identifier(type):
            seen |= TENDER_TYPE
        elif equals(&name, b"amount", 6) and not seen & TENDER_AMOUNT and integer(cursor, amount, &value):
            seen |= TENDER_AMOUNT
        else:
            return False
        if not passes(cursor, c","):
            break
    return seen == TENDER_TYPE + TENDER_AMOUNT and not equals(type, b"points", 6) and passes(cursor, c"}")


cdef bint scan_line_field(Cursor* cursor, int field, Line* line, Columns* columns) noexcept nogil:
    """The value of one field of a line; a missing category or brand may be said to be null."""
    cdef Py_ssize_t at = columns.lines_n
    if field == LINE_NO:
        line.seen |= LINE_NO
        return integer(cursor, &line.line_no, &columns.line_no[at])
    if field == QUANTITY:
        line.seen |= QUANTITY
        return integer(cursor, &line.quantity, &columns.quantity[at])
    if field == AMOUNT:
        line.seen |= AMOUNT
        return integer(cursor, &line.amount, &columns.amount[at])
    if field == DISCOUNT:
        line.seen |= DISCOUNT
        return integer(cursor, &line.discount, &line.reduced)
    if field == SKU:
        line.seen |= SKU
        return string(cursor, &line.sku) and is_identifier(&line.sku)
    if field == KIND:
        line.seen |= KIND
        return string(cursor, &line.kind) and is_kind(&line.kind)
    if field == 0:
        return passed_over(cursor)
    if absent(cursor):
        return True
    line.seen |= field
    if field == CATEGORY:
        return string(cursor, &line.category) and line.category.size <= LABEL_MAX
    return string(cursor, &line.brand) and line.brand.size <= LABEL_MAX


cdef void write_line(Text* text, const Line* line) noexcept:
    """A line as msgspec writes it: in the order of `receipts.Line`, what is as it would be without the field left out."""
    text_object(text, b'{"line_no":')
    text_span(text, &line.line_no)
    text_object(text, b',"sku":"')
    text_span(text, &line.sku)
    text_object(text, b'","quantity_milli":')
    text_span(text, &line.quantity)
    text_object(text, b',"amount":')
    text_span(text, &line.amount)
    if line.seen & CATEGORY:
        text_object(text, b',"category":"')
        text_span(text, &line.category)
        text_object(text, b'"')
    if line.seen & BRAND:
        text_object(text, b',"brand":"')
        text_span(text, &line.brand)
        text_object(text, b'"')
    if line.reduced:
        text_object(text, b',"discount":')
        text_span(text, &line.discount)
    if line.seen & KIND and not equals(&line.kind, b"item", 4):
        text_object(text, b',"kind":"')
        text_span(text, &line.kind)
        text_object(text, b'"')
    text_object(text, b"}")
