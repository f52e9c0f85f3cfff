"""MessagePack for Redis's Lua, which reads no `bin`: long lists of names and texts, without an object per field."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.string cimport memcpy

# What a list and a string begin with whose length stands in four bytes.
cdef unsigned char LIST = 0xDD, STRING = 0xDB
cdef Py_ssize_t HEAD = 5


def texts(list pairs):
    """A list of names and texts in turn, in pieces: a text is UTF-8 already and is copied once, by whoever joins them.

    >>> import msgspec
    >>> msgspec.msgpack.decode(b"".join(texts([("a", b"x"), ("b", b"")])))
    ['a', 'x', 'b', '']
    """
    cdef list pieces = [PyBytes_FromStringAndSize(NULL, HEAD)]
    cdef const char* name
    cdef char* into
    cdef Py_ssize_t size
    cdef bytes text, piece = pieces[0]
    begin(PyBytes_AS_STRING(piece), LIST, 2 * len(pairs))
    for label, text in pairs:
        name = PyUnicode_AsUTF8AndSize(label, &size)
        piece = PyBytes_FromStringAndSize(NULL, 2 * HEAD + size)
        into = PyBytes_AS_STRING(piece)
        begin(into, STRING, size)
        memcpy(into + HEAD, name, size)
        begin(into + HEAD + size, STRING, PyBytes_GET_SIZE(text))
        pieces.append(piece)
        pieces.append(text)
    return pieces


cdef inline void begin(char* into, unsigned char kind, Py_ssize_t length) noexcept:
    into[0], into[1], into[2] = <char> kind, <char> (length >> 24 & 255), <char> (length >> 16 & 255)
    into[3], into[4] = <char> (length >> 8 & 255), <char> (length & 255)
