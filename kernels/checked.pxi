# Exact integer arithmetic that several kernels share. `include` it: with a package-dir mapping Cython finds no .pxd by its dotted name.

from libc.stdint cimport int32_t, int64_t, uint64_t

cdef extern from *:
    """
    typedef __int128 tillstream_int128;
    """
    ctypedef long long int128 "tillstream_int128"

cdef int64_t INT64_MAX = 0x7FFFFFFFFFFFFFFF
# Below this, the product of two factors fits 64 bits, whose division is several times cheaper than that of 128 bits.
cdef int64_t HALF_MAX = 0x7FFFFFFF


cdef inline int64_t scaled(int64_t points, int64_t part, int64_t whole) noexcept nogil:
    """floor(points * part / whole) for 0 <= part <= whole, whole > 0, points >= 0: never more than `points`."""
    if points <= HALF_MAX and part <= HALF_MAX:
        return (points * part) // whole
    return <int64_t> ((<int128> points * <int128> part) / <int128> whole)
