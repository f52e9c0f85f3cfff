"""Globs against the oracle, which tries every way of matching."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference import glob_matches
from tillstream.kernels.globs import compile_glob

LETTERS = st.sampled_from("ab.")
SEGMENT = st.text(LETTERS, max_size=3)
NAME = st.lists(SEGMENT, min_size=1, max_size=5).map("/".join)
PATTERN = st.lists(
    st.one_of(st.just("**"), st.just("**"), st.text(st.sampled_from("ab.*"), max_size=4).filter(lambda text: "**" not in text)),
    min_size=1,
    max_size=6,
).map("/".join)


@given(PATTERN, NAME)
def test_glob_of_any_pattern_matches_as_the_oracle_does(pattern: str, name: str) -> None:
    assert bool(compile_glob(pattern).fullmatch(name)) == glob_matches(pattern, name)


@given(st.text("ab/*\n[(\\|^$é", max_size=8), st.text("ab/\n[(\\|^$é", max_size=8))
def test_glob_of_any_characters_matches_as_the_oracle_does(pattern: str, name: str) -> None:
    assert bool(compile_glob(pattern).fullmatch(name)) == glob_matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "matching", "not_matching"),
    [
        ("fuel/**", ["fuel", "fuel/diesel", "fuel/diesel/bio"], ["fuels", "x/fuel", "fuelx/y"]),
        ("**/cheese", ["cheese", "dairy/cheese", "a/b/cheese"], ["cheese/x", "dairy/xcheese"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["az", "a/bz", "a/z/y"]),
        ("drinks/*", ["drinks/beer", "drinks/"], ["drinks", "drinks/beer/dark"]),
        ("PL-*", ["PL-0001", "PL-"], ["PL-1/2", "DE-1"]),
        ("**", ["", "a", "a/b"], []),
        ("", [""], ["a", "/"]),
    ],
)
def test_glob_by_example(pattern: str, matching: list[str], not_matching: list[str]) -> None:
    glob = compile_glob(pattern)
    assert [name for name in matching if not glob.fullmatch(name)] == []
    assert [name for name in not_matching if glob.fullmatch(name)] == []


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("**/a/**/a/**/a/**/a/**/a/**/b", "/".join("a" * 128)),
        ("*a*a*a*a*a*a*a*a*b", "a" * 256),
        ("**/*a*a*a/**/*a*a*b/**/c", "/".join(["aaa"] * 64)),
        ("/".join(["**"] * 40) + "/x", "/".join("y" * 128)),
    ],
)
def test_glob_with_many_stars_does_not_try_all_combinations(pattern: str, name: str) -> None:
    """Regression: the engine hung for minutes on such a program and a name of 256 characters."""
    began = time.process_time()
    assert compile_glob(pattern).fullmatch(name) is None
    assert time.process_time() - began < 1.0
