"""What is logged has no personal value in it, wherever one stands; and what it has instead is still of use."""

import io
import logging

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tillstream.gateway.masking import MASK, Masking, mask_event, masked, masked_text
from tillstream.kernels.voucher_codes import code_of, grouped

AROUND = st.text(st.characters(categories=("L", "P", "Zs"), exclude_characters="%@"), max_size=10)
DIGITS = st.text("0123456789", min_size=9, max_size=19)
NAMES = st.from_regex(r"[a-z][a-z0-9.+-]{0,12}[a-z]", fullmatch=True)


@given(before=AROUND, digits=DIGITS, separator=st.sampled_from(["", " ", "-", "."]), step=st.integers(2, 4), after=AROUND)
def test_card_or_phone_is_masked_in_any_grouping(before: str, digits: str, separator: str, step: int, after: str) -> None:
    value = separator.join(digits[at : at + step] for at in range(0, len(digits), step))
    shown = masked_text(f"{before} {value} {after}")
    assert MASK in shown
    assert value not in shown
    assert digits[-6:] not in shown


@given(before=AROUND, name=NAMES, host=NAMES, at=st.sampled_from(["@", "%40"]), after=AROUND)
@example("to=", "jan", "example.org", "@", "'")
def test_address_is_masked_anywhere(before: str, name: str, host: str, at: str, after: str) -> None:
    assert f"{name}{at}{host}" not in masked_text(f"{before}{name}{at}{host}{after}")


@given(before=AROUND, chance=st.binary(min_size=15, max_size=15), after=AROUND)
def test_code_of_a_voucher_is_masked(before: str, chance: bytes, after: str) -> None:
    code = code_of(chance)
    for written in (code, grouped(code), grouped(code).lower()):
        assert written not in masked_text(f"{before} {written} {after}")


@pytest.mark.parametrize(
    "text",
    [
        "key 5f1c0e9a7b3d2461 batch spring/1",
        "spool_waits records=21 error=not acknowledged within 0.8 s",
        "receipt PL-0001/3/2026-03-07/000123 of 2026-03-07T17:42:10+01:00",
        "127.0.0.1:40225 status=202 ms=12.75",
        "account p-4f0a12bc34de56f7890a1b2c3d4e5f60",
    ],
)
def test_what_is_of_no_person_stays(text: str) -> None:
    assert masked_text(text) == text


def test_fields_are_masked_by_their_names_at_any_depth() -> None:
    data = [{"member": {"value": "x"}, "birth_date": "1980-01-01", "store_id": "PL-1"}]
    assert mask_event(None, "info", {"event": "enrolled", "data": data, "Token": "t", "n": 5}) == {
        "event": "enrolled",
        "data": [{"member": MASK, "birth_date": MASK, "store_id": "PL-1"}],
        "Token": MASK,
        "n": 5,
    }
    assert masked(b"jan@example.org") == MASK
    assert masked(ValueError("2901234567890")) == MASK


def test_log_of_the_standard_library_is_masked_tracebacks_too() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(Masking())
    log = logging.Logger("proof")
    log.addHandler(handler)
    log.warning("card %s", "2901234567890")
    try:
        raise ValueError("jan@example.org")
    except ValueError:
        log.exception("failed")
    shown = stream.getvalue()
    assert "card ***" in shown
    assert "ValueError: ***" in shown
    assert "2901234567890" not in shown
