# JSON text into a growing buffer: integers and fragments, for the ledger records of sales. Room is made once per receipt, for the most
# that it can take; writing then only moves a pointer.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, strlen

# The digits of a 64-bit integer and a comma.
cdef Py_ssize_t INTEGER_MAX = 21

cdef struct Text:
    char* start
    Py_ssize_t size
    Py_ssize_t room


cdef int text_room(Text* text, Py_ssize_t more) except -1 nogil:
    """Makes room for `more` characters."""
    cdef char* larger
    if text.size + more > text.room:
        text.room = 2 * (text.size + more)
        larger = <char*> realloc(text.start, text.room)
        if larger == NULL:
            with gil:
                raise MemoryError
        text.start = larger
    return 0


cdef inline void text_bytes(Text* text, const char* source, Py_ssize_t size) noexcept nogil:
    memcpy(text.start + text.size, source, size)
    text.size += size


cdef const char* PAIRS = (
    b"00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657585960616263646566"
    b"676869707172737475767778798081828384858687888990919293949596979899"
)


cdef inline void text_integer(Text* text, int64_t value) noexcept nogil:
    """A decimal integer that is not negative."""
    text_natural(text, <uint64_t> value)


cdef inline void text_natural(Text* text, uint64_t value) noexcept nogil:
    """A decimal integer of 64 bits without a sign, two digits at a time."""
    cdef char digits[20]
    cdef int at = 20
    cdef uint64_t rest = value, pair
    while rest >= 100:
        pair = 2 * (rest % 100)
        rest = rest // 100
        at -= 2
        digits[at], digits[at + 1] = PAIRS[pair], PAIRS[pair + 1]
    if rest >= 10:
        at -= 2
        digits[at], digits[at + 1] = PAIRS[2 * rest], PAIRS[2 * rest + 1]
    else:
        at -= 1
        digits[at] = <char> (48 + rest)
    text_bytes(text, digits + at, 20 - at)


cdef inline void text_literal(Text* text, const char* literal) noexcept nogil:
    text_bytes(text, literal, strlen(literal))


cdef inline void text_object(Text* text, bytes fragment) noexcept:
    text_bytes(text, PyBytes_AS_STRING(fragment), PyBytes_GET_SIZE(fragment))


cdef inline Py_ssize_t text_string(Text* text, str value) except -1:
    """A string in its quotes, room made for it; 0, and nothing written, where it needs escapes."""
    cdef Py_ssize_t size, i
    cdef const char* source = PyUnicode_AsUTF8AndSize(value, &size)
    cdef unsigned char character
    text_room(text, size + 2)
    for i in range(size):
        character = <unsigned char> source[i]
        if character < 32 or character == 34 or character == 92:
            return 0
    text_bytes(text, b'"', 1)
    text_bytes(text, source, size)
    text_bytes(text, b'"', 1)
    return 1
