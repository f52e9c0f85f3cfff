# cython: overflowcheck=False
"""What a batch of receipts earns, exact, without the GIL (DESIGN.md §5).

In, per receipt r: lines first[r] .. first[r+1]-1 and the sum of its points tenders; per line: amount, quantity_milli, line_no; and, as bits
per rule, which rules the receipt and each of its lines leave open:

    first     |0    |3  |5          receipts
    amount    |a|a|a|a|a| ...       lines, minor units
    line_bits |W|W|W|W|W| ...       W words of 64 bits a line

Out, groups of parts: one group per receipt and rule that gave points, one part per line that got some:

    group: receipt, rule, basis, award before the cap, parts from .. to
    part:  place of the line in its receipt, points

Products of two 64-bit factors are taken in 128 bits; sums and results are checked, and a receipt that would overflow gets status OVERFLOW
and no points: an error, never a wrong number. (The compiler's own overflow checks, which know no 128 bits, are off here.)
"""

from array import array

from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memset

from cpython.bytes cimport PyBytes_FromStringAndSize

from msgspec.json import encode as encode_json

include "checked.pxi"
include "spread.pxi"
include "text.pxi"

cdef object BEYOND = 2**63

cdef enum:
    OK = 0
    OVERFLOW = 1
    NO_MEMORY = 2

cdef enum Form:
    PER_AMOUNT = 0
    PER_ITEM = 1
    PER_LINE = 2
    FIXED = 3
    STEPS = 4
    MULTIPLY = 5

cdef enum:
    FLOOR = 0
    HALF_UP = 1
    CEIL = 2

cdef enum:
    STACK_ALL = 0
    STACK_BEST = 1
    STACK_FIRST = 2


cdef struct Group:
    int64_t basis
    int64_t award
    int32_t receipt
    int32_t rule
    Py_ssize_t part_from
    Py_ssize_t part_to


cdef struct Part:
    int64_t points
    int32_t place


cdef struct Fragment:
    # The constant bytes of one rule's entries: before its points, and behind its line numbers up to its basis.
    const char* before
    Py_ssize_t before_size
    const char* behind
    Py_ssize_t behind_size


cdef struct Bodies:
    # What a run of receipts' records say from their lines on, each from at[i] to at[i + 1]; and points by number of unit, units_n a receipt.
    Py_ssize_t first
    Py_ssize_t n
    Text text
    Py_ssize_t* at
    int64_t* totals


cdef class Spare:
    """The room of the last batch's results, for the next: asking the system for megabytes anew takes longer than filling them."""

    cdef Group* groups
    cdef Part* parts
    cdef Py_ssize_t groups_room, parts_room

    def __cinit__(self):
        self.groups = NULL
        self.parts = NULL

    def __dealloc__(self):
        free(self.groups)
        free(self.parts)


cdef class Awards:
    """The groups and parts of one batch; `status[r]` is 0, or 1 where receipt r overflowed."""

    cdef Group* groups
    cdef Part* parts
    cdef Py_ssize_t groups_n, groups_room, parts_n, parts_room
    cdef Py_ssize_t next_group
    cdef Spare spare
    cdef const int64_t[::1] first, amount, quantity, line_no, unit
    cdef Text text
    cdef Bodies bodies
    cdef Fragment* fragments
    cdef list fragments_of
    cdef Py_ssize_t units_n
    cdef readonly list status
    cdef readonly Py_ssize_t receipts_n

    def __cinit__(self):
        self.groups = NULL
        self.parts = NULL
        self.text.start = NULL
        self.fragments = NULL
        memset(&self.bodies, 0, sizeof(Bodies))

    def __dealloc__(self):
        if self.spare is not None and self.spare.groups == NULL:
            self.spare.groups, self.spare.groups_room = self.groups, self.groups_room
            self.spare.parts, self.spare.parts_room = self.parts, self.parts_room
        else:
            free(self.groups)
            free(self.parts)
        free(self.text.start)
        free(self.fragments)
        free(self.bodies.text.start)
        free(self.bodies.at)
        free(self.bodies.totals)

    @property
    def parts_count(self):
        """Line-and-rule pairs that got points; parts of a group that its better rival withdrew do not count."""
        cdef Py_ssize_t g, count = 0
        for g in range(self.groups_n):
            count += self.groups[g].part_to - self.groups[g].part_from
        return count

    def by_receipt(self):
        """Per receipt a list of (rule row, basis, award before the cap, places, points); places and points are parallel lists."""
        cdef list result = [[] for _ in range(self.receipts_n)]
        cdef Py_ssize_t g
        for g in range(self.groups_n):
            if self.groups[g].part_from < self.groups[g].part_to:
                (<list> result[self.groups[g].receipt]).append(self.group_lists(&self.groups[g]))
        return result

    def given(self, Py_ssize_t receipt):
        """One receipt of `by_receipt`."""
        cdef list result = []
        self.seek(receipt)
        while self.next_group < self.groups_n and self.groups[self.next_group].receipt == receipt:
            if self.groups[self.next_group].part_from < self.groups[self.next_group].part_to:
                result.append(self.group_lists(&self.groups[self.next_group]))
            self.next_group += 1
        return result

    cdef void seek(self, Py_ssize_t receipt) noexcept nogil:
        """Goes to a receipt's first group; mostly that is the next one."""
        while self.next_group > 0 and self.groups[self.next_group - 1].receipt >= receipt:
            self.next_group -= 1
        while self.next_group < self.groups_n and self.groups[self.next_group].receipt < receipt:
            self.next_group += 1

    cdef tuple group_lists(self, Group* group):
        cdef list places = [], points = []
        cdef Py_ssize_t p
        for p in range(group.part_from, group.part_to):
            places.append(self.parts[p].place)
            points.append(self.parts[p].points)
        return group.rule, group.basis, group.award, places, points

    def sums(self, Py_ssize_t receipt):
        """What each rule gives one receipt in all: (rule row, points)."""
        cdef list result = []
        cdef Py_ssize_t g, p
        cdef int64_t points
        self.seek(receipt)
        g = self.next_group
        while g < self.groups_n and self.groups[g].receipt == receipt:
            points = 0
            for p in range(self.groups[g].part_from, self.groups[g].part_to):
                points += self.parts[p].points
            if points:
                result.append((self.groups[g].rule, points))
            g += 1
        return result

    def record(self, Py_ssize_t receipt, list values, list fragments, bytes behind=b""):
        """The ledger record of one plain sale, as `schemas.ledger` encodes it (see writing.py), and its points by number of unit.

        Args:
            receipt: its place in the batch.
            values: what is said in front of its lines: bytes stand as they are, strings become JSON strings, integers digits.
            fragments: per rule row the bytes before its points, and those behind its line numbers up to its basis.
            behind: what is said behind its entries.

        A total that does not fit 64 bits is told as 2**63.
        """
        cdef Py_ssize_t place, size
        if fragments is not self.fragments_of or not self.bodies.first <= receipt < self.bodies.first + self.bodies.n:
            self.write(receipt, 1, fragments)
        place = receipt - self.bodies.first
        size = self.bodies.at[place + 1] - self.bodies.at[place]
        self.text.size = 0
        for value in values:
            self.write_value(value)
        text_room(&self.text, size + len(behind) + 2)
        text_bytes(&self.text, self.bodies.text.start + self.bodies.at[place], size)
        text_object(&self.text, behind)
        text_bytes(&self.text, b"}}", 2)
        return PyBytes_FromStringAndSize(self.text.start, self.text.size), self.totals_of(place)

    cdef int write_value(self, value) except -1:
        if type(value) is str:
            if text_string(&self.text, <str> value):
                return 0
            value = encode_json(value)
        if type(value) is bytes:
            text_room(&self.text, len(<bytes> value))
            text_object(&self.text, <bytes> value)
        else:
            text_room(&self.text, INTEGER_MAX)
            text_integer(&self.text, value)
        return 0

    cdef list totals_of(self, Py_ssize_t place):
        """Points by number of unit, those without any left out."""
        cdef list totals = []
        cdef Py_ssize_t unit
        cdef int64_t points
        for unit in range(self.units_n):
            points = self.bodies.totals[place * self.units_n + unit]
            if points:
                totals.append((unit, points if points > 0 else BEYOND))
        return totals

    def write(self, Py_ssize_t first, Py_ssize_t n, list fragments):
        """Writes the lines and entries of `n` receipts from `first` on, without the GIL: their `record` then only has to join them.

        Args:
            fragments: as for `record`, the same object.
        """
        cdef Py_ssize_t i
        if not 0 <= first <= first + n <= self.receipts_n:
            raise IndexError(first)
        self.take_fragments(fragments)
        self.bodies.n = 0  # Until all is there.
        free(self.bodies.at)
        free(self.bodies.totals)
        self.bodies.at = <Py_ssize_t*> calloc(n + 1, sizeof(Py_ssize_t))
        self.bodies.totals = <int64_t*> calloc(n * self.units_n + 1, sizeof(int64_t))
        if self.bodies.at == NULL or self.bodies.totals == NULL:
            raise MemoryError
        self.bodies.text.size = 0
        with nogil:
            for i in range(n):
                self.write_entries(first + i, &self.bodies.totals[i * self.units_n])
                self.bodies.at[i + 1] = self.bodies.text.size
        self.bodies.first, self.bodies.n = first, n

    cdef int take_fragments(self, list fragments) except -1:
        """Finds the bytes of the fragments, once for all receipts that have the same."""
        cdef Py_ssize_t k
        cdef bytes before, behind
        if fragments is self.fragments_of:
            return 0
        self.fragments_of = None
        free(self.fragments)
        self.fragments = <Fragment*> calloc(len(fragments) + 1, sizeof(Fragment))
        if self.fragments == NULL:
            raise MemoryError
        for k in range(len(fragments)):
            before, behind = fragments[k]
            self.fragments[k].before, self.fragments[k].before_size = PyBytes_AS_STRING(before), len(before)
            self.fragments[k].behind, self.fragments[k].behind_size = PyBytes_AS_STRING(behind), len(behind)
        self.fragments_of = fragments
        return 0

    cdef int write_entries(self, Py_ssize_t receipt, int64_t* totals) except -1 nogil:
        """The lines and accruals of one receipt; adds its points up by number of unit."""
        cdef Text* text = &self.bodies.text
        cdef Py_ssize_t at = self.first[receipt], end = self.first[receipt + 1], last
        cdef Group* group
        cdef int64_t* total
        cdef bint some = False
        self.seek(receipt)
        last = self.next_group
        while last < self.groups_n and self.groups[last].receipt == receipt:
            last += 1
        text_room(text, self.most_text(end - at, self.next_group, last))
        write_column(text, b'"line_no":[', &self.line_no[0] if end > at else NULL, at, end)
        write_column(text, b'],"amount":[', &self.amount[0] if end > at else NULL, at, end)
        write_column(text, b'],"quantity_milli":[', &self.quantity[0] if end > at else NULL, at, end)
        text_literal(text, b'],"entries":[')
        while self.next_group < last:
            group = &self.groups[self.next_group]
            self.next_group += 1
            if group.part_from < group.part_to:
                if some:
                    text_bytes(text, b",", 1)
                some = True
                total = &totals[self.unit[group.rule]]
                total[0] = more(total[0], self.write_group(group, &self.fragments[group.rule], at))
        text_bytes(text, b"]", 1)
        return 0

    cdef Py_ssize_t most_text(self, Py_ssize_t lines, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
        """The most characters that lines and entries may need."""
        cdef Py_ssize_t size = 256 + 3 * lines * INTEGER_MAX, g
        cdef Fragment* fragment
        for g in range(first, last):
            fragment = &self.fragments[self.groups[g].rule]
            size += fragment.before_size + fragment.behind_size + 64
            size += 2 * (self.groups[g].part_to - self.groups[g].part_from + 2) * INTEGER_MAX
        return size

    cdef int64_t write_group(self, Group* group, const Fragment* fragment, Py_ssize_t at) noexcept nogil:
        """One object of `entries`; the sum of its points, which is at most its award."""
        cdef Text* text = &self.bodies.text
        cdef int64_t total = 0
        cdef Py_ssize_t p
        text_bytes(text, fragment.before, fragment.before_size)
        for p in range(group.part_from, group.part_to):
            text_integer(text, self.parts[p].points)
            text_bytes(text, b",", 1)
            total += self.parts[p].points
        text.size -= 1
        text_literal(text, b'],"line_no":[')
        for p in range(group.part_from, group.part_to):
            text_integer(text, self.line_no[at + self.parts[p].place])
            text_bytes(text, b",", 1)
        text.size -= 1
        text_bytes(text, fragment.behind, fragment.behind_size)
        text_integer(text, group.basis)
        text_literal(text, b',"award":')
        text_integer(text, group.award)
        text_bytes(text, b"}", 1)
        return total

    cdef void take(self, Spare spare) noexcept:
        """Begins with the room that an earlier batch left."""
        self.spare = spare
        self.groups, self.groups_room = spare.groups, spare.groups_room
        self.parts, self.parts_room = spare.parts, spare.parts_room
        spare.groups, spare.parts = NULL, NULL
        spare.groups_room = spare.parts_room = 0

    cdef int add_group(self, int32_t receipt, int32_t rule, int64_t basis, int64_t award) noexcept nogil:
        cdef Group* larger
        cdef Group* group
        if self.groups_n == self.groups_room:
            self.groups_room = 2 * self.groups_room + 1024
            larger = <Group*> realloc(self.groups, self.groups_room * sizeof(Group))
            if larger == NULL:
                return NO_MEMORY
            self.groups = larger
        group = &self.groups[self.groups_n]
        group.receipt, group.rule, group.basis, group.award = receipt, rule, basis, award
        group.part_from = group.part_to = self.parts_n
        self.groups_n += 1
        return OK

    cdef int add_part(self, int32_t place, int64_t points) noexcept nogil:
        cdef Part* larger
        if self.parts_n == self.parts_room:
            self.parts_room = 2 * self.parts_room + 4096
            larger = <Part*> realloc(self.parts, self.parts_room * sizeof(Part))
            if larger == NULL:
                return NO_MEMORY
            self.parts = larger
        self.parts[self.parts_n].place = place
        self.parts[self.parts_n].points = points
        self.parts_n += 1
        self.groups[self.groups_n - 1].part_to = self.parts_n
        return OK


cdef inline int64_t more(int64_t total, int64_t points) noexcept nogil:
    """A total of points; negative where it does not fit 64 bits."""
    return -1 if total < 0 or points > INT64_MAX - total else total + points


cdef void write_column(Text* text, const char* name, const int64_t* column, Py_ssize_t at, Py_ssize_t end) noexcept nogil:
    cdef Py_ssize_t i
    text_literal(text, name)
    for i in range(at, end):
        text_integer(text, column[i])
        text_bytes(text, b",", 1)
    if end > at:
        text.size -= 1


cdef struct Receipt:
    # One receipt as the rules see it, and the scratch room that judging it takes.
    Py_ssize_t n
    const int64_t* amount
    const int64_t* quantity
    const int64_t* line_no
    const uint64_t* line_bits
    const int64_t* room
    int64_t total
    int64_t positions
    int64_t* net
    uint64_t* open
    int32_t* place
    int64_t* weight
    int64_t* number
    int64_t* part
    int64_t* given
    Remainder* remainder


cdef class Kernel:
    """The compiled rules as C arrays; `award` judges batches by them. Built from `rules.CompiledRules`."""

    cdef readonly object compiled
    cdef readonly Py_ssize_t rules_n, words
    cdef const int64_t[::1] form, numerator, divisor, rounding, cap, group, stacking, exclusive, gross, source
    cdef const int64_t[::1] min_amount, min_positions, lines_min_amount, lines_min_quantity, steps_first, steps_count
    cdef const int64_t[::1] step_min, step_points, unit, room_of
    cdef readonly Py_ssize_t rooms_n
    cdef Py_ssize_t units_n
    cdef Spare spare
    cdef int64_t[::1] best_award
    cdef Py_ssize_t[::1] best_group

    def __init__(self, compiled):
        self.compiled = compiled
        self.spare = Spare()
        columns = compiled.columns
        self.rules_n, self.words = len(compiled.rules), compiled.words
        self.form, self.numerator, self.divisor = columns["form"], columns["numerator"], columns["divisor"]
        self.rounding, self.cap, self.group = columns["rounding"], columns["cap"], columns["group"]
        self.stacking, self.exclusive, self.gross = columns["stacking"], columns["exclusive"], columns["gross"]
        self.source, self.min_amount = columns["source"], columns["min_amount"]
        self.min_positions, self.lines_min_amount = columns["min_positions"], columns["lines_min_amount"]
        self.lines_min_quantity = columns["lines_min_quantity"]
        self.unit, self.room_of, self.rooms_n = columns["unit"], columns["room"], len(compiled.rooms)
        self.units_n = len(compiled.units)
        self.steps_first, self.steps_count = columns["steps_first"], columns["steps_count"]
        self.step_min = compiled.step_min if len(compiled.step_min) else array("q", [0])
        self.step_points = compiled.step_points if len(compiled.step_points) else array("q", [0])
        self.best_award = array("q", bytes(8 * (self.rules_n + 1)))
        self.best_group = array("q", bytes(8 * (self.rules_n + 1)))

    def award(
        self,
        const int64_t[::1] first,
        const int64_t[::1] tender,
        const uint64_t[::1] receipt_bits,
        const int64_t[::1] amount,
        const int64_t[::1] quantity,
        const int64_t[::1] line_no,
        const uint64_t[::1] line_bits,
        const int64_t[::1] room=None,
    ):
        """The points of a batch.

        Args:
            first: int64[receipts + 1], where each receipt's lines begin; rises from 0 to the number of lines.
            tender: int64[receipts], minor units paid with points, at most the receipt's total.
            receipt_bits: uint64[receipts * words], rules that store, date and time of day leave open.
            amount, quantity, line_no: int64[lines], not negative.
            line_bits: uint64[lines * words], rules that goods and kind leave open.
            room: int64[receipts * rooms], the most that each rule with a room may give each receipt, not negative; None: no bounds.

        Raises:
            ValueError: the arrays' lengths do not fit each other, or a number is out of its range.
            MemoryError: there is no room for the result.
        """
        cdef Py_ssize_t n = first.shape[0] - 1, lines = amount.shape[0], longest
        cdef Awards awards = Awards()
        cdef Receipt receipt
        cdef Py_ssize_t r
        cdef int[::1] status
        cdef bint bounded = room is not None and self.rooms_n > 0
        longest = self.check(first, tender, receipt_bits, amount, quantity, line_no, line_bits)
        if room is not None and room.shape[0] != n * self.rooms_n:
            raise ValueError("room: length does not fit `first`")
        awards.receipts_n, awards.units_n = n, self.units_n
        awards.take(self.spare)
        awards.first, awards.amount, awards.quantity, awards.line_no, awards.unit = first, amount, quantity, line_no, self.unit
        judged = array("i", bytes(4 * n))
        cdef void* scratch = self.take_room(&receipt, max(1, longest))
        if scratch == NULL:
            raise MemoryError
        try:
            if n > 0:
                status = judged
                # Once for the whole batch: other threads, the writer above all, go on meanwhile.
                with nogil:
                    for r in range(n):
                        receipt.n = first[r + 1] - first[r]
                        if receipt.n == 0:
                            continue
                        receipt.amount, receipt.quantity = &amount[first[r]], &quantity[first[r]]
                        receipt.line_no, receipt.line_bits = &line_no[first[r]], &line_bits[first[r] * self.words]
                        receipt.room = NULL if not bounded else &room[r * self.rooms_n]
                        status[r] = self.judge(awards, &receipt, <int32_t> r, tender[r], &receipt_bits[r * self.words])
                        if status[r] == NO_MEMORY:
                            break
        finally:
            free(scratch)
        awards.status = judged.tolist()
        if NO_MEMORY in awards.status:
            raise MemoryError
        return awards

    cdef Py_ssize_t check(
        self, const int64_t[::1] first, const int64_t[::1] tender, const uint64_t[::1] receipt_bits, const int64_t[::1] amount,
        const int64_t[::1] quantity, const int64_t[::1] line_no, const uint64_t[::1] line_bits,
    ) except -1:
        """Refuses arrays that do not fit each other; the lines of the longest receipt."""
        cdef Py_ssize_t n = first.shape[0] - 1, lines = amount.shape[0], longest = 0, i
        if n < 0 or first[0] != 0 or first[n] != lines:
            raise ValueError("first: must rise from 0 to the number of lines")
        if quantity.shape[0] != lines or line_no.shape[0] != lines or line_bits.shape[0] != lines * self.words:
            raise ValueError("amount, quantity, line_no, line_bits: lengths differ")
        if tender.shape[0] != n or receipt_bits.shape[0] != n * self.words:
            raise ValueError("tender, receipt_bits: lengths do not fit `first`")
        for i in range(n):
            if first[i + 1] < first[i] or tender[i] < 0:
                raise ValueError("first must rise, tender must not be negative")
            longest = max(longest, first[i + 1] - first[i])
        for i in range(lines):
            if amount[i] < 0 or quantity[i] < 0 or line_no[i] < 0:
                raise ValueError(f"line {i}: amount, quantity and line_no must not be negative")
        return longest

    cdef void* take_room(self, Receipt* receipt, Py_ssize_t longest) noexcept:
        """One block for all scratch columns of the longest receipt; NULL without memory."""
        cdef Py_ssize_t columns = 4 * longest + self.rules_n * longest
        cdef char* room = <char*> malloc((columns + self.words) * 8 + longest * (sizeof(Remainder) + sizeof(int32_t)))
        if room == NULL:
            return NULL
        receipt.net = <int64_t*> room
        receipt.weight = receipt.net + longest
        receipt.number = receipt.weight + longest
        receipt.part = receipt.number + longest
        receipt.given = receipt.part + longest
        receipt.open = <uint64_t*> (receipt.given + self.rules_n * longest)
        receipt.remainder = <Remainder*> (receipt.open + self.words)
        receipt.place = <int32_t*> (receipt.remainder + longest)
        return room

    cdef int judge(
        self, Awards awards, Receipt* receipt, int32_t index, int64_t tender, const uint64_t* bits
    ) noexcept nogil:
        """Rule by rule in their order; on overflow the receipt's groups are taken back."""
        cdef Py_ssize_t k, groups_before = awards.groups_n, parts_before = awards.parts_n
        cdef int status = self.open_receipt(receipt, tender)
        for k in range(self.rules_n):
            self.best_group[k] = -1
        for k in range(self.rules_n):
            if status != OK:
                break
            if not ((bits[k >> 6] & receipt.open[k >> 6]) >> (k & 63)) & 1:
                continue
            if receipt.total < self.min_amount[k] or receipt.positions < self.min_positions[k]:
                continue
            status = self.judge_rule(awards, receipt, index, k)
            if status < 0:
                status = OK
                break
        if status == OVERFLOW:
            awards.groups_n, awards.parts_n = groups_before, parts_before
        return status

    cdef int open_receipt(self, Receipt* receipt, int64_t tender) noexcept nogil:
        """Totals, the rules that some line leaves open, and what of each line was not paid with points."""
        cdef Py_ssize_t i, w
        cdef int64_t quantities = 0
        receipt.total = 0
        receipt.positions = 0
        for w in range(self.words):
            receipt.open[w] = 0
            for i in range(receipt.n):
                receipt.open[w] |= receipt.line_bits[i * self.words + w]
        for i in range(receipt.n):
            if receipt.amount[i] > INT64_MAX - receipt.total or receipt.quantity[i] > INT64_MAX - quantities:
                return OVERFLOW
            receipt.total += receipt.amount[i]
            quantities += receipt.quantity[i]
            receipt.positions += receipt.quantity[i] > 0
            receipt.net[i] = receipt.amount[i]
        if tender > receipt.total:
            return OVERFLOW
        if tender > 0:
            spread_over(tender, receipt.amount, receipt.line_no, receipt.n, receipt.part, receipt.remainder)
            for i in range(receipt.n):
                receipt.net[i] -= receipt.part[i]
        memset(receipt.given, 0, self.rules_n * receipt.n * sizeof(int64_t))
        return OK

    cdef int judge_rule(self, Awards awards, Receipt* receipt, int32_t index, Py_ssize_t k) noexcept nogil:
        """One rule on one receipt: eligible lines, basis, award, cap, stacking, spread. -1: nothing after it may apply."""
        cdef Py_ssize_t i, chosen, g
        cdef int64_t basis = 0, award = 0, capped
        cdef int status
        chosen = self.choose(receipt, k, &basis)
        if chosen == 0:
            return OK
        g = self.group[k]
        if g >= 0 and self.stacking[k] == STACK_FIRST and self.best_group[g] >= 0:
            return OK
        status = self.award_of(receipt, k, chosen, basis, &award)
        if status != OK:
            return status
        capped = award if self.cap[k] < 0 or award < self.cap[k] else self.cap[k]
        if receipt.room != NULL and self.room_of[k] >= 0:
            capped = min(capped, receipt.room[self.room_of[k]])
        if g >= 0 and self.stacking[k] == STACK_BEST and self.best_group[g] >= 0:
            if capped <= self.best_award[g]:
                return OK
            self.withdraw(awards, receipt, self.best_group[g])
        if awards.add_group(index, <int32_t> k, basis, award) != OK:
            return NO_MEMORY
        if g >= 0:
            self.best_group[g] = awards.groups_n - 1
            self.best_award[g] = capped
        spread_over(capped, receipt.weight, receipt.number, chosen, receipt.part, receipt.remainder)
        for i in range(chosen):
            if receipt.part[i] > 0:
                receipt.given[k * receipt.n + receipt.place[i]] = receipt.part[i]
                if awards.add_part(receipt.place[i], receipt.part[i]) != OK:
                    return NO_MEMORY
        return -1 if self.exclusive[k] else OK

    cdef Py_ssize_t choose(self, Receipt* receipt, Py_ssize_t k, int64_t* basis) noexcept nogil:
        """Gathers the eligible lines of rule k: their places, weights and numbers. 0 where they do not come to the rule's minima."""
        cdef Py_ssize_t i, chosen = 0, n = receipt.n, words = self.words
        cdef int shift = k & 63
        cdef int64_t amount = 0, quantity = 0, sum_ = 0, bit
        cdef const int64_t* net = receipt.amount if self.gross[k] else receipt.net
        cdef const int64_t* gross = receipt.amount
        cdef const int64_t* quantities = receipt.quantity
        cdef const int64_t* numbers = receipt.line_no
        cdef const uint64_t* bits = receipt.line_bits + (k >> 6)
        cdef int32_t* place = receipt.place
        cdef int64_t* weight = receipt.weight
        cdef int64_t* number = receipt.number
        # Without a branch: which lines a rule leaves open is not to be guessed. What is written for one that it closes, the next overwrites.
        for i in range(n):
            bit = (bits[i * words] >> shift) & 1
            place[chosen], weight[chosen], number[chosen] = <int32_t> i, net[i], numbers[i]
            sum_ += net[i] & -bit
            amount += gross[i] & -bit
            quantity += quantities[i] & -bit
            chosen += bit
        basis[0] = sum_
        if amount < self.lines_min_amount[k] or quantity < self.lines_min_quantity[k]:
            return 0
        return chosen

    cdef int award_of(self, Receipt* receipt, Py_ssize_t k, Py_ssize_t chosen, int64_t basis, int64_t* award) noexcept nogil:
        """The award before its cap, by the rule's form."""
        cdef int64_t form = self.form[k], count = 0
        cdef int128 exact
        cdef Py_ssize_t i
        if form == FIXED:
            award[0] = self.numerator[k]
            return OK
        if form == STEPS:
            award[0] = self.step_of(k, basis)
            return OK
        if form == PER_AMOUNT:
            return self.rounded(k, <int128> basis * <int128> self.numerator[k], award)
        if form == MULTIPLY:
            for i in range(chosen):
                count += receipt.given[self.source[k] * receipt.n + receipt.place[i]]
            return self.rounded(k, <int128> count * <int128> self.numerator[k], award)
        if form == PER_LINE:
            count = chosen // self.divisor[k]
        else:
            for i in range(chosen):
                count += receipt.quantity[receipt.place[i]] // 1000 // self.divisor[k]
        exact = <int128> count * <int128> self.numerator[k]
        if exact > <int128> INT64_MAX:
            return OVERFLOW
        award[0] = <int64_t> exact
        return OK

    cdef int64_t step_of(self, Py_ssize_t k, int64_t basis) noexcept nogil:
        """Points of the highest minimum that `basis` reaches; the minima rise."""
        cdef Py_ssize_t i
        cdef int64_t points = 0
        for i in range(self.steps_first[k], self.steps_first[k] + self.steps_count[k]):
            if self.step_min[i] > basis:
                break
            points = self.step_points[i]
        return points

    cdef int rounded(self, Py_ssize_t k, int128 product, int64_t* award) noexcept nogil:
        """product / divisor, rounded as the rule says; half up as floor((2 * product + divisor) / (2 * divisor))."""
        cdef int128 divisor = <int128> self.divisor[k], result
        if self.rounding[k] == CEIL:
            result = (product + divisor - 1) / divisor
        elif self.rounding[k] == HALF_UP:
            result = (2 * product + divisor) / (2 * divisor)
        elif product <= <int128> INT64_MAX:
            award[0] = <int64_t> product // self.divisor[k]
            return OK
        else:
            result = product / divisor
        if result > <int128> INT64_MAX:
            return OVERFLOW
        award[0] = <int64_t> result
        return OK

    cdef void withdraw(self, Awards awards, Receipt* receipt, Py_ssize_t loser) noexcept nogil:
        """Takes back what the best rule of a group so far gave."""
        cdef Group* group = &awards.groups[loser]
        memset(&receipt.given[group.rule * receipt.n], 0, receipt.n * sizeof(int64_t))
        group.part_to = group.part_from
