# JSON text into a growing buffer: integers and fragments, for the ledger records of sales. Room is made once per receipt, for the most
# that it can take; writing then only moves a pointer.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

# The digits of a 64-bit integer and a comma.
cdef Py_ssize_t INTEGER_MAX = 21

cdef struct Text:
    char* start
    Py_ssize_t size
    Py_ssize_t room


cdef int text_room(Text* text, Py_ssize_t more) except -1:
    """Makes room for `more` characters."""
    cdef char* larger
    if text.size + more > text.room:
        text.room = 2 * (text.size + more)
        larger = <char*> realloc(text.start, text.room)
        if larger == NULL:
            raise MemoryError
        text.start = larger
    return 0


cdef inline void text_bytes(Text* text, const char* source, Py_ssize_t size) noexcept nogil:
    memcpy(text.start + text.size, source, size)
    text.size += size


cdef inline void text_integer(Text* text, int64_t value) noexcept nogil:
    """A decimal integer that is not negative."""
    text_natural(text, <uint64_t> value)


cdef inline void text_natural(Text* text, uint64_t value) noexcept nogil:
    """A decimal integer of 64 bits without a sign."""
    cdef char digits[20]
    cdef int at = 20
    cdef uint64_t rest
    while True:
        rest = value // 10
        at -= 1
        digits[at] = <char> (48 + (value - 10 * rest))
        value = rest
        if value == 0:
            break
    text_bytes(text, digits + at, 20 - at)


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
