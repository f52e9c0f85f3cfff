"""What becomes of vouchers in the order of their topic: one owner at a time, used up once, given back, and each refusal with its reason."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec.structs import replace

from tests.voucher_events import HELD_S, A, B, at, claim, issued, revoked, taken
from tillstream.kernels.vouchers import NOBODY, STANDINGS, Vouchers, standing_of
from tillstream.schemas.events import Malformed
from tillstream.schemas.export import json_schemas
from tillstream.schemas.vouchers import VoucherEvent, decode_voucher, encode_voucher

OTHER = "tills/PL-0002"


def test_code_is_reserved_redeemed_and_given_back_for_a_return() -> None:
    life = [claim("reserve"), claim("redeem", seconds=10), claim("release", seconds=20, returned_by="v1"), claim("redeem", "r2", 30)]
    assert taken(issued(), *life) == ["accepted"] * 5


def test_code_reserved_by_one_till_is_refused_to_another_until_its_time_is_up() -> None:
    assert taken(
        issued(), claim("reserve"), claim("reserve", till=OTHER), claim("redeem", "r2", HELD_S - 1), claim("reserve", "r2", HELD_S),
        claim("redeem", "r1", HELD_S + 1),
    ) == ["accepted", "accepted", "reserved", "reserved", "accepted", "reserved"]  # fmt: skip


def test_same_reservation_again_answers_the_same() -> None:
    twice = [event for kind in ("reserve", "redeem") for event in (claim(kind), claim(kind, seconds=5))]
    assert taken(issued(), *twice) == ["accepted", "accepted", "duplicate", "accepted", "duplicate"]
    assert taken(issued(), claim("release"), claim("release")) == ["accepted", "accepted", "duplicate"]


def test_reservation_again_is_not_longer() -> None:
    assert taken(issued(), claim("reserve"), claim("reserve", seconds=800), claim("reserve", "r2", HELD_S)) == [
        *("accepted", "accepted", "duplicate", "accepted")
    ]


def test_redeemed_is_final_for_everybody_but_a_return_of_its_own_receipt() -> None:
    assert taken(
        issued(), claim("redeem", receipt_id="p1"), claim("redeem", "r2", 1), claim("redeem", till=OTHER), claim("reserve", "r3", 10**6),
        claim("redeem", receipt_id="p2"), claim("release"), claim("release", "r2", 2, returned_by="v1"), claim("redeem", "r4", 3),
    ) == ["accepted", "accepted", "redeemed", "redeemed", "redeemed", "redeemed", "redeemed", "accepted", "redeemed"]  # fmt: skip


def test_request_that_was_under_way_while_its_reservation_was_given_back_takes_nothing() -> None:
    late = [claim("release"), claim("reserve", seconds=1), claim("redeem", seconds=2), claim("redeem", "r2", 3)]
    assert taken(issued(), claim("reserve"), *late) == ["accepted", "accepted", "accepted", "released", "released", "accepted"]
    assert taken(issued(), *late)[1:] == ["accepted", "released", "released", "accepted"]


def test_dates_are_kept_and_a_reservation_made_in_time_may_be_redeemed() -> None:
    batch = issued(valid_from=at(0), valid_until=at(1000))
    assert taken(batch, claim("redeem", seconds=-1), claim("redeem", seconds=1000)) == ["accepted", "not_yet_valid", "expired"]
    assert taken(batch, claim("reserve", seconds=999), claim("redeem", seconds=1001)) == ["accepted"] * 3


def test_code_of_a_member_is_nobody_else_s() -> None:
    batch = issued(members=["m1", "m2"])
    tries: list[VoucherEvent] = [
        claim("redeem"), claim("redeem", member_id="m2"), claim("reserve", member_id="m1"), claim("redeem"),
        claim("redeem", digest=B, member_id="m2"),
    ]  # fmt: skip
    assert taken(batch, *tries)[1:] == ["not_this_member", "not_this_member", "accepted", "accepted", "accepted"]


@pytest.mark.parametrize("what", [{}, {"batch": "1"}, {"digest": A}])
def test_revoked_codes_are_refused_and_a_redemption_before_stands(what: dict[str, Any]) -> None:
    assert taken(issued(), claim("reserve"), revoked(**what), claim("redeem"), revoked(1, **what)) == [
        *("accepted", "accepted", "accepted", "revoked", "duplicate")
    ]
    assert taken(issued(), claim("redeem"), revoked(**what), claim("redeem"))[-1] == "duplicate"


def test_revoked_batch_or_code_leaves_the_others() -> None:
    assert taken(issued(), revoked(digest=A), claim("redeem", digest=B))[-1] == "accepted"
    later = issued("c" * 32, batch="2")
    assert taken(issued(), revoked(), later, claim("redeem", digest="c" * 32))[-1] == "accepted"
    assert taken(issued(), later, revoked(batch="2"), claim("redeem"), claim("redeem", digest="c" * 32))[-2:] == ["accepted", "revoked"]


def test_block_again_issues_nothing_twice_and_another_run_under_its_name_nothing_at_all() -> None:
    vouchers = Vouchers({}, {})
    first, second = issued(A, block=0), issued(B, block=1)
    other = issued("c" * 32, fingerprint="0" * 32)
    statuses = [vouchers.take(event) for event in (first, first, second, claim("redeem", digest=B), second, other)]
    assert statuses == ["accepted", "duplicate", "accepted", "accepted", "duplicate", "issued"]
    assert (vouchers.batches["spring/1"].issued, set(vouchers.codes)) == (2, {A, B})


def test_code_that_was_never_issued_is_unknown() -> None:
    assert taken(*(claim(kind) for kind in ("reserve", "redeem", "release")), revoked(), revoked(digest=A)) == ["unknown"] * 5


KINDS = st.sampled_from(["reserve", "redeem", "release", "return"])


@given(st.lists(st.tuples(KINDS, st.sampled_from(["r1", "r2", "r3"]), st.integers(0, 3 * HELD_S)), max_size=30))
def test_between_two_redemptions_there_is_always_a_return_by_the_first_owner(steps: list[tuple[str, str, int]]) -> None:
    vouchers, user = Vouchers({}, {}), None
    vouchers.take(issued())
    for kind, owner, seconds in sorted(steps, key=lambda step: step[2]):
        fields = {"returned_by": "v1"} if kind == "return" else {}
        status = vouchers.take(claim("release" if kind == "return" else kind, owner, seconds, **fields))
        if kind == "redeem" and status == "accepted":
            assert user is None
            user = owner
        elif kind == "return" and status == "accepted" and owner == user:
            user = None
        assert (vouchers.codes[A].redeemed_at is not None) == (user is not None)


@given(st.lists(st.tuples(KINDS, st.sampled_from(["r1", "r2"]), st.integers(0, 3 * HELD_S)), max_size=12))
def test_events_that_are_all_delivered_again_at_once_change_nothing(steps: list[tuple[str, str, int]]) -> None:
    events = [
        claim("release" if kind == "return" else kind, owner, seconds, **({"returned_by": "v1"} if kind == "return" else {}))
        for kind, owner, seconds in sorted(steps, key=lambda step: step[2])
    ]
    once, twice = Vouchers({}, {}), Vouchers({}, {})
    for vouchers, times in ((once, 1), (twice, 2)):
        for event in (issued(), *events):
            for _ in range(times):
                vouchers.take(event)
    assert twice.codes == once.codes


def test_standing_is_one_of_six() -> None:
    vouchers = Vouchers({}, {})
    vouchers.take(issued())
    free = vouchers.codes[A]
    held = replace(free, until=at(10))
    cases = [
        (free, 0, "free"), (held, 0, "reserved"), (held, 10, "free"), (free, 10**8, "expired"),
        (replace(free, redeemed_at=at(0)), 10**8, "redeemed"), (replace(free, revoked_at=at(0)), 0, "revoked"),
        (replace(free, given_back=(NOBODY,)), 0, "released"),
    ]  # fmt: skip
    found = [standing_of(voucher, vouchers.batches["spring/1"], at(seconds)) for voucher, seconds, _ in cases]
    assert found == [expected for *_, expected in cases]
    assert set(found) == set(STANDINGS)


@pytest.mark.parametrize("event", [issued(), issued(members=["m1", "m2"]), claim("reserve"), claim("redeem"), claim("release"), revoked()])
def test_event_reads_back_and_fits_its_schema(event: VoucherEvent) -> None:
    raw = encode_voucher(event)
    assert decode_voucher(raw) == event
    Draft202012Validator(json_schemas()[json.loads(raw)["type"]]).validate(json.loads(raw))


@pytest.mark.parametrize(
    ("change", "path"),
    [({"digests": []}, "$.data.digests"), ({"digests": ["A"]}, "$.data.digests[0]"), ({"series": "a/b"}, "$.data.series"),
     ({"members": ["m1"]}, "$.data.members"), ({"valid_until": "2026-04-01"}, "$.data.valid_until")],
)  # fmt: skip
def test_malformed_event_is_refused_with_its_path(change: dict[str, Any], path: str) -> None:
    body = json.loads(encode_voucher(issued()))
    body["data"] |= change
    with pytest.raises(Malformed) as refused:
        decode_voucher(msgspec.json.encode(body))
    assert refused.value.path == path
