"""Bounds on what a caller may ask: requests by key, and how deep its JSON may be nested.

A key has a bucket of tokens, `burst` at most, that fills with `per_s` tokens a second; a request takes one, a batch one for each of its
receipts. Each gateway counts for itself,
so with n gateways behind one address a key may have n times as much.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from tillstream.schemas.keys import SCOPES, Scope

BUCKETS_MAX = 10_000
"""Keys that are counted at once; of more, those that were quiet longest begin with a full bucket."""

DEPTH_MAX = 32
"""How deep JSON may be nested: four times what any of our events has, and far below what a decoder's stack takes."""

RATE = re.compile(r"([a-z]+)=([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")

_strings = re.compile(rb'"(?:[^"\\]++|\\.?+)*+(?:"|\Z)', re.DOTALL)
"""Matches from any quote on, also where a string does not end: an attempt that failed would be made again from every quote behind it."""

_not_brackets = bytes(set(range(256)) - set(b"[]{}"))
_one_kind = bytes.maketrans(b"{}", b"[]")


class Rate(NamedTuple):
    """Requests of one key: so many a second in the long run, so many at once."""

    per_s: int
    burst: int


class RatesInvalid(ValueError):
    """The text says no rates; the message says where and what is wanted."""


def parse_rates(text: str) -> dict[Scope, Rate]:
    """Rates by scope from `till=50/200 read=50/200 ...`: requests a second / at once. A scope that is left out has no limit.

    Raises:
        RatesInvalid: it is not written so.

    >>> parse_rates("till=50/200")
    {'till': Rate(per_s=50, burst=200)}
    """
    rates: dict[Scope, Rate] = {}
    for word in text.split():
        match = RATE.fullmatch(word)
        if match is None or match[1] not in SCOPES:
            raise RatesInvalid(f"{word!r} is not SCOPE=PER_SECOND/AT_ONCE with a scope of {', '.join(SCOPES)}, as till=50/200")
        rates[match[1]] = Rate(int(match[2]), int(match[3]))
    return rates


class Buckets:
    """What each key has left."""

    def __init__(self, rates: Mapping[Scope, Rate]) -> None:
        self.rates = rates
        self.left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key_id: str, scope: Scope, now: float, tokens_n: int = 1) -> float:
        """Takes so many tokens at once, at most `burst`; 0.0, or after how many seconds there are as many.

        `now` is in seconds and never goes back.
        """
        rate = self.rates.get(scope)
        if rate is None:
            return 0.0
        tokens = self._tokens(key_id, rate, now)
        taken = tokens >= tokens_n
        self._put(key_id, tokens - tokens_n if taken else tokens, now)
        return 0.0 if taken else (tokens_n - tokens) / rate.per_s

    def charge(self, key_id: str, scope: Scope, tokens: int, now: float) -> None:
        """Takes more tokens for a request that was answered, also beyond what is there: at most a bucket's worth is owed."""
        rate = self.rates.get(scope)
        if rate is not None:
            self._put(key_id, max(-float(rate.burst), self._tokens(key_id, rate, now) - tokens), now)

    def _tokens(self, key_id: str, rate: Rate, now: float) -> float:
        tokens, before = self.left.pop(key_id, (float(rate.burst), now))
        return min(float(rate.burst), tokens + (now - before) * rate.per_s)

    def _put(self, key_id: str, tokens: float, now: float) -> None:
        self.left[key_id] = (tokens, now)
        if len(self.left) > BUCKETS_MAX:
            self.left.popitem(last=False)


def is_too_deep(raw: bytes, depth_max: int = DEPTH_MAX) -> bool:
    """Whether JSON is nested deeper than `depth_max`; of what is no JSON, whether it looks so.

    Without a stack: strings are left out, then everything but brackets, which are made of one kind, and each round removes the innermost.

    >>> is_too_deep(b'{"a": [[1], "[[[["]}', 3), is_too_deep(b'{"a": [[1], "[[[["]}', 2)
    (False, True)
    """
    if raw.count(b"[") + raw.count(b"{") <= depth_max:
        return False
    brackets = _strings.sub(b"", raw).translate(_one_kind, _not_brackets)
    for _ in range(depth_max):
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)
