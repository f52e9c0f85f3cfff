"""Written numbers as integers of their smallest part, exactly: digits are moved, nothing is computed in floats.

>>> number("1 599,90", 2, Written(",", " "))
159990
"""

import re
from typing import NamedTuple

from tillstream.schemas.fields import INT64_MAX
from tillstream.sources.ingest.mapping_rules import Round
from tillstream.sources.ingest.rows import BadField

DIGITS_MAX = 40
"""A number that fits 64 bits has 19; zeros before and behind it are lawful, a file full of digits is not."""

SPACES = " \u00a0\u202f"
"""What a space between thousands may be."""

PLAIN = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([+-]?)")


class Written(NamedTuple):
    """How numbers are written: the sign before decimals, and what groups thousands."""

    decimal: str = "."
    thousands: str = ""


def number(text: str, scale: int, written: Written, round_: Round | None = None, implied: int | None = None) -> int:
    """The number in `text` times ten to the power of `scale`; `implied`: so many of its digits are decimals, and no sign tells them.

    A minus may stand behind the number, as old systems write it.

    Raises:
        BadField: it is no number, has more decimals than `scale` without `round_`, or does not fit 64 bits.
    """
    match = PLAIN.fullmatch(_plain(text, written))
    if match is None or not (match[2] or match[3]) or (match[1] and match[4]) or len(text) > DIGITS_MAX:
        raise BadField(f"{text!r} is no number", _form(written))
    whole, decimals = match[2], match[3] or ""
    if implied is not None:
        if match[3] is not None:
            raise BadField(f"{text!r} has a decimal sign", "leave `decimals` out of the mapping: it is for numbers that have none")
        whole, decimals = whole[: max(0, len(whole) - implied)], whole[max(0, len(whole) - implied) :].rjust(implied, "0")
    result = _scaled(text, whole, decimals, scale, round_)
    if result > INT64_MAX:
        raise BadField(f"{text!r} does not fit 64 bits")
    return -result if "-" in {match[1], match[4]} else result


def _plain(text: str, written: Written) -> str:
    """The number with a point before its decimals, and without its groups, which must be of three digits."""
    if written.thousands:
        between = SPACES if written.thousands == " " else written.thousands
        whole, sign, decimals = text.partition(written.decimal)
        if re.fullmatch(rf"[+-]?[0-9]{{1,3}}(?:[{re.escape(between)}][0-9]{{3}})+[+-]?", whole):
            text = re.sub(f"[{re.escape(between)}]", "", whole) + sign + decimals
    if written.decimal != "." and "." in text:
        return ""
    return text.replace(written.decimal, ".")


def _form(written: Written) -> str:
    groups = f", thousands by {written.thousands!r}" if written.thousands else ""
    return f"the mapping says: decimals after {written.decimal!r}{groups}"


def _scaled(text: str, whole: str, decimals: str, scale: int, round_: Round | None) -> int:
    kept, rest = decimals[:scale].ljust(scale, "0"), decimals[scale:].rstrip("0")
    result = int(f"{whole}{kept}" or "0")
    if not rest:
        return result
    if round_ is None:
        raise BadField(f"{text!r} has more than {scale} decimals", "say `round` in the mapping, or correct the row")
    half = rest[0] >= "5" if round_ == "half_up" else rest > "5" or (rest == "5" and result % 2 == 1)
    return result + (round_ != "down" and half)
