# JSON text into a growing buffer: integers and fragments, for the ledger records of sales.

from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

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


cdef int text_bytes(Text* text, const char* source, Py_ssize_t size) except -1:
    text_room(text, size)
    memcpy(text.start + text.size, source, size)
    text.size += size
    return 0


cdef int text_integer(Text* text, int64_t value) except -1:
    """A decimal integer that is not negative."""
    cdef char digits[20]
    cdef int at = 20
    while True:
        at -= 1
        digits[at] = <char> (48 + value % 10)
        value = value // 10
        if value == 0:
            break
    return text_bytes(text, digits + at, 20 - at)
