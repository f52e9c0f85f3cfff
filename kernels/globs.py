"""Globs over slash-separated names: `*` stays inside one segment, `**` spans any number of segments, none included."""

import re


def compile_glob(pattern: str) -> re.Pattern[str]:
    """A pattern to `fullmatch` with.

    >>> fuel = compile_glob("fuel/**")
    >>> [name for name in ("fuel", "fuel/diesel", "fuel/diesel/bio", "fuels") if fuel.fullmatch(name)]
    ['fuel', 'fuel/diesel', 'fuel/diesel/bio']
    >>> bool(compile_glob("drinks/*").fullmatch("drinks/beer/dark"))
    False
    """
    return re.compile(_over_segments(pattern.split("/"), first=True), re.DOTALL)


def _over_segments(segments: list[str], *, first: bool) -> str:
    """Each segment brings the slash before it, so that `**` can stand for none at all."""
    if not segments:
        return ""
    head, rest = segments[0], segments[1:]
    if head != "**":
        return ("" if first else "/") + _in_segment(head) + _over_segments(rest, first=False)
    if not first:
        return "(?:/[^/]*)*" + _over_segments(rest, first=False)
    if not rest:
        return ".*"
    return "(?:[^/]*/)*" + _over_segments(rest, first=True)


def _in_segment(segment: str) -> str:
    return "[^/]*".join(re.escape(literal) for literal in segment.split("*"))
