"""The look at members, many sales at a time: which rules their state closes, and how much room it leaves the others.

In: members as they stand before their sales, and the sales' columns. Out, per sale:

    closed  uint64[sales * words]   the rules that the state closes, a bit each, as in `receipt_bits`
    room    int64[sales * rooms]    the most that each rule with a room may give

The bounds of a program (terms.py) look at few different sums, a counter over some dates each: they are taken in one pass over each counter,
and their dates once per day. What a member is (tier, profile) is judged once and remembered, as goods are (rules.py). Sums that do not fit 64 bits
count as the most that does: no bound is higher.
"""

from array import array
from typing import NamedTuple

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.dict cimport PyDict_GetItem, PyDict_Next
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint64_t

from msgspec.json import encode

from tillstream.kernels.rules import VALUES_MAX
from tillstream.schemas.member_state import Member

cdef dict EMPTY = {}
cdef object NOBODY = Member().profile
cdef int64_t INT64_MAX = 0x7FFFFFFFFFFFFFFF

DAYS_MAX = 4_000
"""Local dates whose spans are remembered: ten years of them."""

cdef enum Own:
    NOTHING = 0
    VISIT = 1
    AMOUNT = 2

OWN_PARTS = ("", "visits", "spend")
"""What the event itself adds to a sum, as `Bound.own` says it, in the order of the numbers here."""


class Looks(NamedTuple):
    """What members' states mean for sales, in columns; see the module."""

    closed: array
    room: array


cdef class Looker:
    """The bounds and caps of one program's rules for receipts, compiled from `rules.CompiledRules` and `questions.Questions`."""

    cdef list counters, used_ids, room_ids
    cdef const int64_t[::1] sums_from, bound_row, bound_sum, least, most, own, used_row, room_cap
    cdef Py_ssize_t words, bounds_n, counters_n, sums_n, used_n, rooms_n
    cdef dict spans, known
    cdef object spans_of, who
    cdef bint looks_at_who

    def __init__(self, words, questions):
        """`questions` says what to look at, `questions.Questions`."""
        self.words = words
        names = [counter for counter, _, _ in questions.sums]
        self.counters = list(dict.fromkeys(names))
        self.counters_n = len(self.counters)
        self.sums_from = array("q", [*map(names.index, self.counters), len(names)])
        self.bound_row = array("q", [row for row, _, _ in questions.bounds] or [0])
        self.bound_sum = array("q", [place for _, place, _ in questions.bounds] or [0])
        self.least = array("q", [bound.least for _, _, bound in questions.bounds] or [0])
        self.most = array("q", [bound.most for _, _, bound in questions.bounds] or [0])
        self.own = array("q", [OWN_PARTS.index(bound.own) for _, _, bound in questions.bounds] or [0])
        self.used_ids = [rule_id for _, rule_id, _ in questions.once]
        self.used_row = array("q", [row for row, _, _ in questions.once] or [0])
        self.room_ids = [rule_id for rule_id, _, _ in questions.rooms]
        self.room_cap = array("q", [cap for _, _, cap in questions.rooms] or [0])
        self.bounds_n, self.sums_n = len(questions.bounds), len(questions.sums)
        self.used_n, self.rooms_n = len(questions.once), len(questions.rooms)
        self.spans, self.known = {}, {}
        self.spans_of, self.who, self.looks_at_who = questions.spans, questions.who, questions.looks_at_who

    def look(self, columns, list members, list days, list left):
        """The looks at `members` before the sales in `columns`; None: an anonymous sale, whose awards nobody asks for.

        Args:
            days: the sales' local dates.
            left: per room what is left of the rule's budget.
        """
        cdef Py_ssize_t n = len(members), r, i
        cdef const int64_t[::1] first = columns.first, amount = columns.amount
        looks = Looks(array("Q", bytes(8 * n * self.words)), array("q", bytes(8 * n * self.rooms_n)))
        if n == 0:
            return looks
        cdef uint64_t[::1] closed = looks.closed
        cdef int64_t[::1] room = looks.room if self.rooms_n else array("q", [0])
        cdef const int64_t[::1] spans, most_left = array("q", left or [0])
        cdef int64_t[::1] sums = array("q", bytes(8 * (self.sums_n + 1)))
        cdef int64_t total
        day = None
        for r in range(n):
            member = members[r]
            if member is None:
                continue
            if days[r] != day:
                day = days[r]
                spans = self.spans_at(day)
            total = 0
            for i in range(first[r], first[r + 1]):
                total = added(total, amount[i])
            self.take_sums(member.counts, &spans[0], &sums[0])
            self.close_by_bounds(&sums[0], total, &closed[r * self.words])
            if self.used_n:
                self.close_by_use(member.used, &spans[2 * self.sums_n], &closed[r * self.words])
            if self.looks_at_who:
                self.close_by_who(member, &closed[r * self.words])
            if self.rooms_n:
                self.leave_room(member.given, &spans[2 * (self.sums_n + self.used_n)], &most_left[0], &room[r * self.rooms_n])
        return looks

    cdef const int64_t[::1] spans_at(self, day):
        """First and last dates of the sums, then of what is allowed once, then of the rooms."""
        found = self.spans.get(day)
        if found is None:
            if len(self.spans) >= DAYS_MAX:
                self.spans.clear()
            found = self.spans[day] = array("q", [end for span in self.spans_of(day) for end in span] or [0])
        return found

    cdef int take_sums(self, dict counts, const int64_t* spans, int64_t* sums) except -1:
        cdef Py_ssize_t c, at
        cdef PyObject* found
        for c in range(self.counters_n):
            at = self.sums_from[c]
            found = PyDict_GetItem(counts, <object> self.counters[c]) if counts else NULL
            sums_over(<dict> found if found != NULL else EMPTY, &spans[2 * at], self.sums_from[c + 1] - at, &sums[at])
        return 0

    cdef void close_by_bounds(self, const int64_t* sums, int64_t total, uint64_t* closed) noexcept:
        cdef Py_ssize_t b
        cdef int64_t found
        for b in range(self.bounds_n):
            found = sums[self.bound_sum[b]]
            if self.own[b] == VISIT:
                found = added(found, 1)
            elif self.own[b] == AMOUNT:
                found = added(found, total)
            if found < self.least[b] or found > self.most[b]:
                close(closed, self.bound_row[b])

    cdef int close_by_use(self, dict used, const int64_t* spans, uint64_t* closed) except -1:
        cdef Py_ssize_t u
        cdef PyObject* found
        if not used:
            return 0
        for u in range(self.used_n):
            found = PyDict_GetItem(used, <object> self.used_ids[u])
            if found == NULL:
                continue
            for day in <list> found:
                if spans[2 * u] <= <int64_t> day <= spans[2 * u + 1]:
                    close(closed, self.used_row[u])
                    break
        return 0

    cdef int close_by_who(self, member, uint64_t* closed) except -1:
        profile = member.profile
        # Mostly nobody has enrolled: then the tier says all, and text is no bytes.
        if profile is NOBODY and not member.taken:
            key = member.tier
        else:
            key = encode((member.tier, profile.kind, profile.segments, member.all_published(), profile.attributes))
        cdef PyObject* found = PyDict_GetItem(self.known, key)
        cdef bytes words
        cdef Py_ssize_t w
        if found != NULL:
            words = <bytes> found
        else:
            if len(self.known) >= VALUES_MAX:
                self.known.clear()
            words = self.known[key] = self.who(member)
        for w in range(self.words):
            closed[w] |= (<const uint64_t*> PyBytes_AS_STRING(words))[w]
        return 0

    cdef int leave_room(self, dict given, const int64_t* spans, const int64_t* left, int64_t* room) except -1:
        cdef Py_ssize_t c
        cdef PyObject* found
        cdef int64_t spent = 0
        for c in range(self.rooms_n):
            room[c] = self.room_cap[c]
            found = PyDict_GetItem(given, <object> self.room_ids[c]) if given else NULL
            if found != NULL and room[c] != INT64_MAX:
                sums_over(<dict> found, &spans[2 * c], 1, &spent)
                room[c] = max(0, room[c] - spent)
            room[c] = min(room[c], left[c])
        return 0


def narrowed(const uint64_t[::1] bits, const uint64_t[::1] closed):
    """The bits of what `closed` leaves open."""
    cdef Py_ssize_t n = bits.shape[0], i
    result = array("Q", bytes(8 * n))
    if n == 0:
        return result
    cdef uint64_t[::1] open = result
    for i in range(n):
        open[i] = bits[i] & ~closed[i]
    return result


cdef inline void close(uint64_t* closed, int64_t row) noexcept:
    closed[row >> 6] |= <uint64_t> 1 << (row & 63)


cdef inline int64_t added(int64_t sum, int64_t more) noexcept:
    """A sum of 64 bits; beyond them, the most that they hold."""
    return INT64_MAX if more > 0 and sum > INT64_MAX - more else sum + more


cdef inline int64_t counted(PyObject* count) except? -1:
    """A count of 64 bits; beyond them, the most that they hold."""
    cdef int beyond
    cdef int64_t value = PyLong_AsLongLongAndOverflow(<object> count, &beyond)
    return value if beyond == 0 else INT64_MAX


cdef int sums_over(dict counts, const int64_t* spans, Py_ssize_t n, int64_t* sums) except -1:
    """The sums of the counts over `n` spans of dates."""
    cdef PyObject* day
    cdef PyObject* count
    cdef Py_ssize_t place = 0, j
    cdef int64_t date, more
    for j in range(n):
        sums[j] = 0
    while PyDict_Next(counts, &place, &day, &count):
        date = <int64_t> <object> day
        more = counted(count)
        for j in range(n):
            if spans[2 * j] <= date <= spans[2 * j + 1]:
                sums[j] = added(sums[j], more)
    return 0
