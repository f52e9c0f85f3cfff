# Pieces of JSON, for plain.pyx: a cursor moves over a record's bytes, and what it takes stays where it is, as a `Span`.
#
# Every function declines, by False, what it does not know for certain to be lawful. Python ends its bytes with a zero, which no function
# passes, so none looks for the end.

from libc.string cimport memcmp, memset


cdef struct Cursor:
    const char* at
    const char* end


cdef struct Span:
    const char* at
    Py_ssize_t size


cdef inline bint passes(Cursor* cursor, char wanted) noexcept nogil:
    """Passes white space and then `wanted`, if that comes next."""
    while cursor.at[0] == 32 or cursor.at[0] == 10 or cursor.at[0] == 13 or cursor.at[0] == 9:
        cursor.at += 1
    if cursor.at[0] != wanted:
        return False
    cursor.at += 1
    return True


cdef inline bint ended(Cursor* cursor) noexcept nogil:
    """Whether only white space is left."""
    passes(cursor, 0)
    return cursor.at == cursor.end + 1


cdef inline bint string(Cursor* cursor, Span* into) noexcept nogil:
    """A string without escapes; that it is UTF-8, the caller has checked."""
    cdef const char* at
    if not passes(cursor, c'"'):
        return False
    at = cursor.at
    while at[0] != c'"':
        if <unsigned char> at[0] < 32 or at[0] == 92:
            return False
        at += 1
    into.at, into.size = cursor.at, at - cursor.at
    cursor.at = at + 1
    return True


cdef inline bint begins(Cursor* cursor, const char* wanted, Py_ssize_t size) noexcept nogil:
    """Passes `wanted`, if exactly that comes next."""
    if cursor.end - cursor.at < size or memcmp(cursor.at, wanted, size) != 0:
        return False
    cursor.at += size
    return True


cdef inline bint named(Cursor* cursor, Span* name) noexcept nogil:
    """A field's name and the colon behind it."""
    return string(cursor, name) and passes(cursor, c":")


cdef inline bint integer(Cursor* cursor, Span* into, int64_t* value) noexcept nogil:
    """An integer that is not negative, of at most 18 digits; its digits and its value."""
    cdef const char* at
    cdef int64_t result = 0
    if passes(cursor, c"-"):
        return False
    at = cursor.at
    while c"0" <= at[0] <= c"9":
        if at - cursor.at == 18:
            return False
        result = 10 * result + (at[0] - c"0")
        at += 1
    into.at, into.size = cursor.at, at - cursor.at
    if into.size == 0 or (into.size > 1 and into.at[0] == c"0"):
        return False
    cursor.at = at
    value[0] = result
    return True


cdef inline bint absent(Cursor* cursor) noexcept nogil:
    """Passes a null, if that comes next."""
    if not passes(cursor, c"n"):
        return False
    if cursor.at[0] == c"u" and cursor.at[1] == c"l" and cursor.at[2] == c"l":
        cursor.at += 3
        return True
    cursor.at -= 1
    return False


cdef inline bint passed_over(Cursor* cursor) noexcept nogil:
    """The value of an unknown field: a string or an integer."""
    cdef Span ignored
    cdef int64_t value
    return string(cursor, &ignored) or integer(cursor, &ignored, &value)


cdef inline bint equals(const Span* span, const char* text, Py_ssize_t size) noexcept nogil:
    return span.size == size and memcmp(span.at, text, size) == 0


cdef inline bint is_identifier(const Span* span) noexcept nogil:
    """Of a lawful length; what has that many bytes has no more characters."""
    return 1 <= span.size <= 256


cdef inline int two_digits(const char* at) noexcept nogil:
    """Their number; negative where they are no digits."""
    if c"0" <= at[0] <= c"9" and c"0" <= at[1] <= c"9":
        return 10 * (at[0] - c"0") + (at[1] - c"0")
    return -1000


cdef bint is_date(const char* at) noexcept nogil:
    """A day of the calendar, `yyyy-mm-dd`, within events.YEARS."""
    cdef int year = 100 * two_digits(at) + two_digits(at + 2), month = two_digits(at + 5), day = two_digits(at + 8), days = 31
    if at[4] != c"-" or at[7] != c"-" or not YEAR_FIRST <= year < YEAR_END:
        return False
    if month == 4 or month == 6 or month == 9 or month == 11:
        days = 30
    elif month == 2:
        days = 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 1 <= month <= 12 and 1 <= day <= days


cdef bint is_instant(const Span* span) noexcept nogil:
    """`yyyy-mm-ddThh:mm:ss` and an offset: `Z`, or `+hh:mm`, or `-hh:mm` if that is not zero."""
    cdef const char* at = span.at
    if not (span.size == 20 or span.size == 25) or not is_date(at) or at[10] != c"T" or at[13] != c":" or at[16] != c":":
        return False
    if not (0 <= two_digits(at + 11) <= 23 and 0 <= two_digits(at + 14) <= 59 and 0 <= two_digits(at + 17) <= 59):
        return False
    if span.size == 20:
        return at[19] == c"Z"
    if at[22] != c":" or not (0 <= two_digits(at + 20) <= 23 and 0 <= two_digits(at + 23) <= 59):
        return False
    return at[19] == c"+" or (at[19] == c"-" and not is_zero_offset(span))


cdef inline bint is_zero_offset(const Span* instant) noexcept nogil:
    return instant.size == 20 or (two_digits(instant.at + 20) == 0 and two_digits(instant.at + 23) == 0)


cdef inline void text_span(Text* text, const Span* span) noexcept nogil:
    text_bytes(text, span.at, span.size)


cdef inline void text_utf8(Text* text, str value) except *:
    cdef Py_ssize_t size
    cdef const char* source = PyUnicode_AsUTF8AndSize(value, &size)
    text_bytes(text, source, size)


cdef inline void text_instant(Text* text, const Span* instant, const char* utc) noexcept nogil:
    """An instant, with `utc` for an offset of nothing."""
    text_bytes(text, instant.at, 19)
    if is_zero_offset(instant):
        text_literal(text, utc)
    else:
        text_bytes(text, instant.at + 19, instant.size - 19)
