# cython: overflowcheck=False
"""How much of what a line earned is undone, and how a tender's points lie over the lines: exact, one line at a time (DESIGN.md §5, Return).

(The compiler's own overflow checks, which know no 128 bits, are off here; products are taken in 128 bits, sums are checked.)
"""

from libc.stdlib cimport free, malloc

include "checked.pxi"
include "spread.pxi"


def undone(int64_t points, int64_t returned, int64_t bought, int64_t returned_milli, int64_t bought_milli):
    """Points reversed so far: floor(points * returned / bought), and all of them once returned = bought.

    By amount (minor units); by quantity (thousandths) where the line cost nothing; all at once where it has neither.

    >>> [undone(100, returned, 300, 0, 1000) for returned in (0, 1, 299, 300)]
    [0, 0, 99, 100]
    >>> undone(7, 0, 0, 500, 1000)
    3
    """
    if bought == 0:
        returned, bought = returned_milli, bought_milli
    if returned >= bought:
        return points
    return scaled(points, returned, bought)


def spread(int64_t total, list weights, list line_nos):
    """`total` over lines in proportion to `weights`, by largest remainder, ties to the lowest line number.

    All weights zero: equal parts. Weights are not negative and their sum fits 64 bits; ValueError or OverflowError otherwise.

    >>> spread(10, [1, 1, 1], [3, 2, 1])
    [3, 3, 4]
    """
    cdef Py_ssize_t n = len(weights), i
    cdef int64_t whole = 0, value
    if len(line_nos) != n or total < 0:
        raise ValueError("weights and line_nos differ in length, or total is negative")
    if n == 0:
        return []
    cdef int64_t* weight = <int64_t*> malloc(n * (3 * sizeof(int64_t) + sizeof(Remainder)))
    if weight == NULL:
        raise MemoryError
    cdef int64_t* number = weight + n
    cdef int64_t* part = number + n
    try:
        for i in range(n):
            value = weights[i]
            if value < 0:
                raise ValueError(f"weights[{i}] is negative")
            if value > INT64_MAX - whole:
                raise OverflowError("the weights' sum does not fit 64 bits")
            whole += value
            weight[i], number[i] = value, line_nos[i]
        spread_over(total, weight, number, n, part, <Remainder*> (part + n))
        return [part[i] for i in range(n)]
    finally:
        free(weight)
