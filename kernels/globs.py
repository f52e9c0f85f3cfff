"""Globs over slash-separated names: `*` stays inside one segment, `**` spans any number of segments, none included.

Between two stars the leftmost match is as good as any other, so it is taken for good (an atomic group): no pattern and no name can make
the search try all combinations.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby

PATTERNS_MAX = 4_096
"""Compiled patterns that are remembered: more than a program has, and explanations ask for them line by line."""

MATCHED_MAX = 20_000
"""Pairs of a pattern and a name of which the answer is remembered: the categories of a shop and many of its goods, some megabytes."""


@lru_cache(PATTERNS_MAX)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """A pattern to `fullmatch` with.

    >>> fuel = compile_glob("fuel/**")
    >>> [name for name in ("fuel", "fuel/diesel", "fuel/diesel/bio", "fuels") if fuel.fullmatch(name)]
    ['fuel', 'fuel/diesel', 'fuel/diesel/bio']
    >>> bool(compile_glob("drinks/*").fullmatch("drinks/beer/dark"))
    False
    """
    return re.compile("".join(_pieces(pattern.split("/"))), re.DOTALL)


@lru_cache(MATCHED_MAX)
def matches_glob(pattern: str, name: str) -> bool:
    """Whether a pattern matches the whole name; for names that come again and again, such as categories.

    >>> matches_glob("fuel/**", "fuel/diesel"), matches_glob("fuel/*", "fuel/diesel/bio")
    (True, False)
    """
    return compile_glob(pattern).fullmatch(name) is not None


def _pieces(segments: list[str]) -> Iterator[str]:
    """The expression in pieces: runs of segments, and between them what stands for `**` and brings the slashes next to it."""
    groups = [(spans, list(group)) for spans, group in groupby(segments, key=lambda segment: segment == "**")]
    if groups == [(True, segments)]:
        yield ".*"
        return
    for index, (spans, group) in enumerate(groups):
        last_span = index >= len(groups) - 2
        if not spans:
            run = "/".join(_in_segment(segment) for segment in group)
            searched = 0 < index < len(groups) - 1
            yield run + "(?=/|\\Z))" if searched else run
        elif index == 0:
            yield "(?:[^/]*/)*" if last_span else "(?>(?:[^/]*/)*?"
        elif index == len(groups) - 1:
            yield "(?:/[^/]*)*"
        else:
            yield "(?:/[^/]*)*/" if last_span else "(?>(?:/[^/]*)*?/"


def _in_segment(segment: str) -> str:
    first, *others = (re.escape(literal) for literal in segment.split("*"))
    middle = "".join(f"(?>[^/]*?{literal})" for literal in others[:-1])
    return first + middle + "".join(f"[^/]*{literal}" for literal in others[-1:])
