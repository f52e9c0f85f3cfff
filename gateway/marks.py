"""How far a listener has read a topic: the next offset of each partition, as the `id` of a server-sent event carries it.

    12.0.7    of a topic of three partitions; whoever gets it hands it back as it is

A mark means the same at every gateway, however records of several partitions were mixed on their way.
"""

import re

Mark = tuple[int, ...]

OFFSET_MAX = 2**63 - 1

TEXT = re.compile(r"[0-9]{1,19}(?:\.[0-9]{1,19})*")


class NoMark(ValueError):
    """The text is no mark of this topic."""


def mark_text(mark: Mark) -> str:
    """The mark as an id.

    >>> mark_text((12, 0, 7))
    '12.0.7'
    """
    return ".".join(map(str, mark))


def parse_mark(text: str, partitions: int) -> Mark:
    """The mark that an id says.

    Raises:
        NoMark: it is none of a topic of so many partitions.

    >>> parse_mark("12.0.7", 3)
    (12, 0, 7)
    """
    if not TEXT.fullmatch(text):
        raise NoMark(f"{text[:80]!r} is no id of this stream")
    mark = tuple(map(int, text.split(".")))
    if len(mark) != partitions or max(mark) > OFFSET_MAX:
        raise NoMark(f"{text[:80]!r} is an id of another stream: this one has {partitions} partitions")
    return mark


def latest(first: Mark, second: Mark) -> Mark:
    """Whichever has read further, partition by partition.

    >>> latest((1, 5), (3, 2))
    (3, 5)
    """
    return tuple(map(max, first, second))


def passed(mark: Mark, partition: int, offset: int) -> Mark:
    """The mark behind one more record.

    >>> passed((1, 5), 0, 7)
    (8, 5)
    """
    return (*mark[:partition], offset + 1, *mark[partition + 1 :])
