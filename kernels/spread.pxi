# Largest remainder: shared by the award kernel (points and tenders over lines) and by the spread of a tender's points.

from libc.stdlib cimport qsort

# Up to this many lines, picking the largest remainders one by one beats sorting them.
cdef Py_ssize_t PICK_MAX = 48


cdef struct Remainder:
    int64_t rest
    int64_t line_no
    Py_ssize_t place


cdef int by_remainder(const void* left, const void* right) noexcept nogil:
    cdef const Remainder* a = <const Remainder*> left
    cdef const Remainder* b = <const Remainder*> right
    if a.rest != b.rest:
        return -1 if a.rest > b.rest else 1
    if a.line_no != b.line_no:
        return -1 if a.line_no < b.line_no else 1
    return 0


cdef void spread_over(
    int64_t total, const int64_t* weight, const int64_t* line_no, Py_ssize_t n, int64_t* part, Remainder* scratch
) noexcept nogil:
    """part[i] = floor(total * weight[i] / sum) each, what is left one by one to the largest remainders, ties to the lowest line_no.

    All weights zero: equal parts. `total` >= 0 and the weights' sum fits 64 bits (the caller has checked both); n > 0.
    """
    cdef int64_t whole = 0, left = total
    cdef Py_ssize_t i, best
    cdef int128 product
    cdef bint rising = True
    for i in range(n):
        whole += weight[i]
    for i in range(n):
        if whole == 0:
            part[i] = total // n
            scratch[i].rest = 0
        elif total <= HALF_MAX and weight[i] <= HALF_MAX:
            part[i] = (total * weight[i]) // whole
            scratch[i].rest = total * weight[i] - part[i] * whole
        else:
            product = <int128> total * <int128> weight[i]
            part[i] = <int64_t> (product / <int128> whole)
            scratch[i].rest = <int64_t> (product - <int128> part[i] * <int128> whole)
        left -= part[i]
        rising = rising and (i == 0 or line_no[i] > line_no[i - 1])
    if left == 0:
        return
    if rising and n <= PICK_MAX:
        pick(left, n, part, scratch)
        return
    for i in range(n):
        scratch[i].line_no = line_no[i]
        scratch[i].place = i
    if n > PICK_MAX:
        qsort(scratch, n, sizeof(Remainder), by_remainder)
        for i in range(left):
            part[scratch[i].place] += 1
        return
    while left > 0:
        best = -1
        for i in range(n):
            if scratch[i].place >= 0 and (best < 0 or by_remainder(&scratch[i], &scratch[best]) < 0):
                best = i
        part[best] += 1
        scratch[best].place = -1
        left -= 1


cdef inline void pick(int64_t left, Py_ssize_t n, int64_t* part, Remainder* scratch) noexcept nogil:
    """One more each to the `left` largest remainders, of lines in the order of their numbers: whichever is less work, from above or below."""
    cdef Py_ssize_t i, found
    cdef int64_t rest
    if 2 * left <= n:
        while left > 0:
            found, rest = 0, -1
            for i in range(n):
                if scratch[i].rest > rest:
                    found, rest = i, scratch[i].rest
            part[found] += 1
            scratch[found].rest = -1
            left -= 1
        return
    for i in range(n):
        part[i] += 1
    while left < n:
        found, rest = 0, INT64_MAX
        for i in range(n):
            if scratch[i].rest <= rest:
                found, rest = i, scratch[i].rest
        part[found] -= 1
        scratch[found].rest = INT64_MAX
        left += 1
