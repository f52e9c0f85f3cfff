"""Largest remainder and the reversal formula against the oracle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import reference
from tillstream.kernels.reversal import spread, undone

INT64_MAX = 2**63 - 1
TOTALS = st.one_of(st.integers(0, 200), st.integers(0, 2**31 + 1), st.integers(0, INT64_MAX))


@st.composite
def weights(draw: st.DrawFn) -> list[int]:
    """Up to 60 weights, whose sum fits 64 bits; more than 48 take the sorting path."""
    count = draw(st.sampled_from([0, 1, 2, 3, 7, 48, 49, 60]))
    most = draw(st.sampled_from([0, 1, 3, 1000, 2**31, INT64_MAX // max(count, 1)]))
    return draw(st.lists(st.integers(0, most), min_size=count, max_size=count))


@given(TOTALS, weights(), st.randoms(use_true_random=False))
def test_spread_of_any_weights_is_the_oracles(total: int, weight: list[int], random: object) -> None:
    numbers = list(range(len(weight)))
    random.shuffle(numbers)  # type: ignore[attr-defined]
    parts = spread(total, weight, numbers)
    assert parts == reference.spread(total, weight, numbers)
    assert sum(parts) == (total if weight else 0)


@pytest.mark.parametrize("count", [2, 48, 49, 500])
def test_spread_of_equal_weights_gives_the_rest_to_the_lowest_line_numbers(count: int) -> None:
    numbers = list(range(count, 0, -1))
    assert spread(count + 1, [7] * count, numbers) == [1] * (count - 1) + [2]
    assert spread(1, [0] * count, numbers) == [0] * (count - 1) + [1]


@pytest.mark.parametrize(
    ("total", "weight", "numbers", "error"),
    [
        (-1, [1], [1], ValueError),
        (1, [-1], [1], ValueError),
        (1, [1, 2], [1], ValueError),
        (1, [INT64_MAX, 1], [1, 2], OverflowError),
        (1, [2**63], [1], OverflowError),
        (2**63, [1], [1], OverflowError),
    ],
)
def test_spread_of_what_does_not_fit_is_refused(total: int, weight: list[int], numbers: list[int], error: type[Exception]) -> None:
    with pytest.raises(error):
        spread(total, weight, numbers)


@given(TOTALS, TOTALS, TOTALS, TOTALS, TOTALS)
def test_undone_of_any_share_is_the_oracles(points: int, returned: int, bought: int, returned_milli: int, bought_milli: int) -> None:
    expected = reference.undone(points, returned, bought, returned_milli, bought_milli)
    assert undone(points, returned, bought, returned_milli, bought_milli) == expected


@given(TOTALS, st.lists(st.integers(0, 2**40), min_size=1, max_size=6))
def test_undone_step_by_step_ends_at_all_points_and_never_goes_back(points: int, steps: list[int]) -> None:
    bought, so_far, before = sum(steps), 0, 0
    for step in steps:
        so_far += step
        now = undone(points, so_far, bought, 0, 0)
        assert before <= now <= points
        before = now
    assert before == points
