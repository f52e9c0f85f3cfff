"""Snapshots that tills keep: opened as they were sealed, by the same installation only, for the same identity only, and not for ever."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tillstream.gateway.bodies import SNAPSHOT_MAX
from tillstream.gateway.reading import Held
from tillstream.gateway.snapshots import Seen, Snapshots, seen
from tillstream.gateway.standing import Standing
from tillstream.kernels.holdings import Hold, Holding
from tillstream.kernels.identities import Seal
from tillstream.schemas.events import Malformed
from tillstream.schemas.member_state import Member, Profile
from tillstream.schemas.receipts import Identity

KEY = b"sixteen characters"
CARD = Seal(KEY).sealed(Identity("card", "2900000000001"))
OTHER = Seal(KEY).sealed(Identity("card", "2900000000002"))
AT = datetime(2026, 11, 20, 12, 0, 0, 250_000, UTC)
DAY_S = 86_400
ASIDE = {"pending": {"2026-12-01": {"": 5}}, "holds": {"h": Hold(3, "2026-11-20")}}
POINTS = Holding({"2027-03-31": 40, "": 2}, {"2026-05-01": 7}, balance=35, **ASIDE)
MEMBER = Member(("2026-11-19T10:00:00Z", "ab"), Profile(birthday="03-07", segments=["families"]), {"spend": {739_000: 12}}, tier="gold")
HELD = {"m1": Held({"points": POINTS}, MEMBER, "2026-11-19"), "p-1": Held({}, MEMBER, None)}
STANDING = Standing("m1", ["m1", "p-1"], HELD, {"first_name": "Ada"}, [])
SEEN = seen(AT, CARD, STANDING, {"welcome": 900}, with_members=True)
SNAPSHOTS = Snapshots(KEY, DAY_S)


def sealed(what: Seen = SEEN) -> str:
    token = SNAPSHOTS.sealed(what)
    assert token is not None
    return token


def refused(token: str, identity: Identity | None = CARD, now: datetime = AT, snapshots: Snapshots = SNAPSHOTS) -> str:
    with pytest.raises(Malformed) as caught:
        snapshots.opened(token, identity, now)
    assert caught.value.path == "$.snapshot"
    return caught.value.code


def test_snapshot_opens_as_it_was_sealed_until_it_is_too_old() -> None:
    token = sealed()
    assert SNAPSHOTS.opened(token, CARD, AT) == SEEN
    assert SNAPSHOTS.opened(token, CARD, AT + timedelta(seconds=DAY_S)).at == AT
    assert SNAPSHOTS.opened(token, CARD, AT - timedelta(seconds=5)) == SEEN  # Another gateway's clock.
    assert refused(token, now=AT + timedelta(seconds=DAY_S + 1)) == "outdated"


def test_snapshot_has_what_a_quote_needs_and_neither_names_nor_the_states_of_other_accounts() -> None:
    standing = SNAPSHOTS.opened(sealed(), CARD, AT).standing
    assert standing == Standing("m1", ["m1", "p-1"], {"m1": STANDING.held["m1"], "p-1": Held({}, None, None)}, {}, [])


def test_two_snapshots_of_the_same_differ_and_both_open() -> None:
    assert sealed() != sealed()


def test_snapshot_of_another_identity_or_installation_is_refused() -> None:
    assert refused(sealed(), OTHER) == "invalid"
    assert refused(sealed(), None) == "invalid"
    assert refused(sealed(), snapshots=Snapshots(b"another identity key", DAY_S)) == "invalid"


@given(place=st.integers(0), letter=st.sampled_from("ABab01-_"))
def test_snapshot_with_one_character_changed_is_refused(place: int, letter: str) -> None:
    token = sealed()
    place %= len(token) - 1  # Not all bits of the last character count.
    changed = token[:place] + letter + token[place + 1 :]
    if changed != token:
        assert refused(changed) == "invalid"


@given(token=st.text(max_size=200) | st.text("ABCDabcd0189-_=", max_size=200))
def test_any_text_is_refused_as_none_of_ours(token: str) -> None:
    assert refused(token) == "invalid"


def test_no_snapshot_is_given_where_none_is_allowed_or_it_would_be_too_long() -> None:
    assert Snapshots(KEY, 0).sealed(SEEN) is None
    accounts = {f"{number:064x}"[::-1]: Held({}, None, f"{number * 7919:08d}") for number in range(9_000)}
    assert SNAPSHOTS.sealed(seen(AT, CARD, Standing("m1", [], accounts, {}, []), {}, with_members=False)) is None


def test_year_of_shopping_every_other_day_fits_many_times() -> None:
    counts = {name: {739_000 + day: 100 + day * 37 % 9_000 for day in range(0, 365, 2)} for name in ("spend", "visits", "points/points")}
    months = range(1, 13)
    points = Holding({f"2027-{month:02d}-28": 500 + month for month in months}, {f"2026-{month:02d}-01": 90 for month in months})
    standing = Standing("m1", ["m1"], {"m1": Held({"points": points}, Member(counts=counts), None)}, {}, [])
    assert len(sealed(seen(AT, CARD, standing, {}, with_members=True))) < SNAPSHOT_MAX / 20
