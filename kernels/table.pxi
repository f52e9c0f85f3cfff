# What the rules say of a sale's values, for plain.pyx. Most values were met a moment ago: they are found in slots, a place each by a hash of
# theirs, without the GIL and without an object; a slot points into what a dictionary owns.

cimport cython

cdef enum:
    # Places for values met lately: goods of a busy hour, in 48 kB.
    SLOTS_N = 2048

# Minutes that are remembered: a year of opening hours. Then they start afresh.
cdef Py_ssize_t MINUTES_MAX = 300_000


cdef struct Slot:
    # A value that was met lately, and its words.
    const char* at
    Py_ssize_t size
    const uint64_t* words


cdef class Table:
    """What `rules.Bits` says of values, by their bytes; the words of a missing value, or of the one that is meant without one, apart."""

    cdef object bits
    cdef dict known
    cdef bytes missing
    cdef const uint64_t* missing_words
    cdef Slot slots[SLOTS_N]

    def __cinit__(self):
        memset(self.slots, 0, sizeof(self.slots))

    def __init__(self, bits, missing):
        self.bits = bits
        self.known = {}
        self.missing = bits.words(missing)
        self.missing_words = <const uint64_t*> PyBytes_AS_STRING(self.missing)

    cdef const uint64_t* words(self, Span* value) except NULL nogil:
        cdef Slot* slot = &self.slots[place_of(value.at, value.size)]
        if slot.size != value.size or slot.words == NULL or memcmp(slot.at, value.at, value.size) != 0:
            with gil:
                self.find(value, slot)
        return slot.words

    cdef int find(self, Span* value, Slot* slot) except -1:
        """Puts a value into its slot."""
        cdef bytes raw = PyBytes_FromStringAndSize(value.at, value.size)
        if raw not in self.known:
            if len(self.known) >= VALUES_MAX:
                self.known.clear()
                memset(self.slots, 0, sizeof(self.slots))
            self.known[raw] = (raw, self.bits.words(raw.decode()))
        raw, words = self.known[raw]
        slot.at, slot.size, slot.words = PyBytes_AS_STRING(raw), value.size, <const uint64_t*> PyBytes_AS_STRING(<bytes> words)
        return 0

    cdef const uint64_t* words_if(self, Span* value, bint there) except NULL nogil:
        return self.words(value) if there else self.missing_words


@cython.overflowcheck(False)
cdef inline Py_ssize_t place_of(const char* at, Py_ssize_t left) noexcept nogil:
    """Where a value's slot is: FNV-1a over eight bytes at a time."""
    cdef uint64_t hashed = 0xCBF29CE484222325ULL, word
    while left >= 8:
        memcpy(&word, at, 8)
        hashed = (hashed ^ word) * 0x100000001B3ULL
        hashed ^= hashed >> 29
        at += 8
        left -= 8
    while left > 0:
        hashed = (hashed ^ <unsigned char> at[0]) * 0x100000001B3ULL
        at += 1
        left -= 1
    return <Py_ssize_t> ((hashed ^ hashed >> 47) & (SLOTS_N - 1))


cdef class Minute:
    """One minute with its offset: its local date, the words of that date and of the local minute of the day, and its text in UTC."""

    cdef object day
    cdef str utc
    cdef bytes words

    def __init__(self, day, utc, words):
        self.day = day
        self.utc = utc
        self.words = words


cdef struct MinuteSlot:
    # A minute that was met lately, by its text without the seconds; no words: it is not to be scanned.
    char text[24]
    const uint64_t* words
    PyObject* minute


cdef class Minutes:
    """The minutes that instants are in, by one program's zone, dates and times of day."""

    cdef object dates, minutes_of_day, zone
    cdef Py_ssize_t words_n
    cdef dict known, retired
    cdef MinuteSlot slots[SLOTS_N]

    def __cinit__(self):
        memset(self.slots, 0, sizeof(self.slots))

    def __init__(self, compiled, zone):
        self.dates, self.minutes_of_day, self.words_n, self.zone = compiled.dates, compiled.minutes, compiled.words, zone
        self.known, self.retired = {}, {}

    cdef MinuteSlot* slot_of(self, Span* instant) except NULL nogil:
        cdef char text[24]
        cdef MinuteSlot* slot
        memset(text, 0, 24)
        memcpy(text, instant.at, 16)
        memcpy(text + 16, instant.at + 19, instant.size - 19)
        slot = &self.slots[place_of(text, 24)]
        if memcmp(slot.text, text, 24) != 0:
            with gil:
                self.find(text, slot)
        return slot

    cdef int find(self, const char* text, MinuteSlot* slot) except -1:
        """Puts a minute into its slot; who has one of the minutes that are forgotten for it keeps it until the next time."""
        cdef bytes key = PyBytes_FromStringAndSize(text, 24)
        if key not in self.known:
            if len(self.known) >= MINUTES_MAX:
                self.known, self.retired = {}, self.known
                memset(self.slots, 0, sizeof(self.slots))
            self.known[key] = self.minute_of(key.rstrip(b"\0").decode())
        minute = self.known[key]
        memcpy(slot.text, text, 24)
        slot.minute = <PyObject*> minute
        slot.words = NULL if minute is None else <const uint64_t*> PyBytes_AS_STRING((<Minute> minute).words)
        return 0

    cdef Minute minute_of(self, str text):
        """None where the zone's offset then had seconds, as Liberia's had until 1972."""
        local = datetime.fromisoformat(text[:16] + ":00" + text[16:]).astimezone(self.zone)
        if local.utcoffset().total_seconds() % 60:
            return None
        dates = int.from_bytes(self.dates.words(local.date()), "little")
        minutes = int.from_bytes(self.minutes_of_day.words(local.hour * 60 + local.minute), "little")
        utc = local.astimezone(UTC).isoformat()[:17]
        return Minute(local.date(), utc, (dates & minutes).to_bytes(8 * self.words_n, "little"))


cdef bint is_text(const char* at, Py_ssize_t size) except -1 nogil:
    """Whether the bytes are UTF-8 throughout, also where nobody looks."""
    cdef uint64_t seen = 0, eight
    cdef Py_ssize_t i
    for i in range(0, size - 7, 8):
        memcpy(&eight, at + i, 8)
        seen |= eight
    for i in range(size & ~7, size):
        seen |= <unsigned char> at[i]
    if not seen & 0x8080808080808080ULL:
        return True
    with gil:
        try:
            PyUnicode_DecodeUTF8(at, size, NULL)
        except UnicodeDecodeError:
            return False
    return True
