"""Limits: buckets against the sum that they promise, depth against a parser that counts."""

import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tillstream.config import Config
from tillstream.gateway import limits
from tillstream.gateway.limits import Buckets, Rate, RatesInvalid, is_too_deep, parse_rates
from tillstream.schemas.keys import SCOPES

JSON = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(max_size=4) | st.sampled_from(['"', "\\", "[[", '\\"{', "]"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "[", '"', "\\"]), inner, max_size=2),
    max_leaves=12,
)


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@given(value=JSON, depth_max=st.integers(0, 6))
def test_depth_is_what_a_parser_counts(value: object, depth_max: int) -> None:
    for raw in (orjson.dumps(value), orjson.dumps(value, option=orjson.OPT_INDENT_2)):
        assert is_too_deep(raw, depth_max) == (depth(value) > depth_max)


NONSENSE = (
    *(b"[" * 4_000_000, b"[" * 2_000_000 + b"]" * 2_000_000),
    *(b'"' + b'\\"' * 2_000_000 + b"[" * 33, b"[" * 33 + b'\\"' * 2_000_000 + b"\\"),
)
"""Four megabytes on which a search that starts anew at every bracket or quote takes hours."""


@pytest.mark.parametrize("raw", NONSENSE, ids=range(len(NONSENSE)))
def test_depth_of_nonsense_is_told_in_no_time(raw: bytes) -> None:
    started = time.process_time()
    is_too_deep(raw)
    assert time.process_time() - started < 2.0


def test_bucket_gives_its_burst_at_once_and_then_its_rate() -> None:
    buckets = Buckets({"till": Rate(5, 20)})
    assert [buckets.take("a", "till", 0.0) for _ in range(20)] == [0.0] * 20
    assert buckets.take("a", "till", 0.0) == pytest.approx(0.2)
    assert buckets.take("a", "till", 0.1) == pytest.approx(0.1)
    assert buckets.take("b", "till", 0.1) == 0.0
    assert buckets.take("a", "till", 0.21) == 0.0
    assert buckets.take("a", "read", 0.21) == 0.0  # No rate, no limit.
    assert [buckets.take("a", "till", 1000.0) for _ in range(21)].count(0.0) == 20


STEPS = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 9)), max_size=80)


@given(steps=STEPS, per_s=st.integers(1, 9), burst=st.integers(1, 9))
def test_bucket_never_gives_more_than_burst_and_rate_and_keeps_its_word(steps: list[tuple[float, int]], per_s: int, burst: int) -> None:
    buckets, now, given_ = Buckets({"till": Rate(per_s, burst)}), 0.0, 0
    for step, wanted in steps:
        now, tokens = now + step, min(wanted, burst)
        wait = buckets.take("a", "till", now, tokens)
        given_ += tokens if wait == 0.0 else 0
        assert given_ <= burst + per_s * now + 1e-6
        if wait:
            assert buckets.take("a", "till", now + wait + 1e-6, tokens) == 0.0
            now += wait + 1e-6
            given_ += tokens


def test_bucket_can_be_charged_beyond_what_is_there_and_owes_no_more_than_itself() -> None:
    buckets = Buckets({"till": Rate(5, 20)})
    buckets.charge("a", "till", 15, 0.0)
    assert [buckets.take("a", "till", 0.0) for _ in range(6)] == [0.0] * 5 + [pytest.approx(0.2)]
    for _ in range(10):
        buckets.charge("a", "till", 15, 0.0)
    assert buckets.take("a", "till", 0.0) == pytest.approx(21 / 5)
    buckets.charge("b", "read", 15, 0.0)
    assert buckets.take("b", "read", 0.0) == 0.0


def test_buckets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BUCKETS_MAX", 3)
    buckets = Buckets({"till": Rate(1, 1)})
    for name in "abcda":
        assert buckets.take(name, "till", 0.0) == 0.0
    assert list(buckets.left) == ["c", "d", "a"]
    assert buckets.take("d", "till", 0.0) == 1.0


def test_rates_are_read_and_mistakes_named() -> None:
    assert parse_rates("till=50/200  read=1/2") == {"till": Rate(50, 200), "read": Rate(1, 2)}
    assert parse_rates("") == {}
    for text in ("till=50", "till=0/5", "tills=5/5", "till=5/5,read=5/5", "till=-1/5"):
        with pytest.raises(RatesInvalid, match="is not SCOPE=PER_SECOND/AT_ONCE"):
            parse_rates(text)
    assert set(parse_rates(Config().gateway_rates)) == set(SCOPES)
