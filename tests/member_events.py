"""Member events as a CRM sends them, for tests; and Hypothesis strategies for histories in which they interact."""

from typing import Any

import msgspec
from hypothesis import strategies as st

from tillstream.kernels.identities import Seal
from tillstream.kernels.sealing import seal_event
from tillstream.schemas.events import MemberEvent, decode

Event = dict[str, Any]

SEAL = Seal(b"of-these-tests", "PL")


def card(number: str) -> dict[str, str]:
    """A card's identity."""
    return {"scheme": "card", "value": number}


def said(name: str, kind: str, day: int, **data: Any) -> Event:
    """A member event of 2026-03-`day`, known by its name."""
    envelope = {"specversion": "1.0", "id": name, "source": "crm", "time": f"2026-03-{day:02}T10:00:00Z"}
    return {**envelope, "type": f"member.{kind}", "data": data}


def merged(day: int, from_: str, into: str, kind: str = "merged", name: str = "") -> Event:
    """A merge, or one taken back."""
    return said(name or f"{kind}-{from_}-{into}-{day}", kind, day, **{"from": from_, "into": into})


def sealed(event: Event) -> MemberEvent:
    """An event as the registry takes it."""
    raw = msgspec.json.encode(event)
    found, _ = seal_event(decode(raw), raw, SEAL)
    assert isinstance(found, MemberEvent)
    return found


MEMBERS = ("a", "b", "c", "d")
CARDS = ("1", "2", "3")


def _data(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    member = st.sampled_from(MEMBERS)
    if kind in {"merged", "unmerged"}:
        return st.fixed_dictionaries({"from": member, "into": member})
    own: dict[str, Any] = {"member_id": member}
    if kind == "enrolled":
        own |= {
            "identities": st.lists(st.sampled_from(CARDS).map(card), max_size=2),
            "household_id": st.sampled_from([None, "h1"]),
            "attributes": st.sampled_from([{}, {"name": "Jan"}]),
            "consents": st.sampled_from([{}, {"marketing": True}]),
        }
    elif kind == "identity_added":
        own["identity"] = st.sampled_from(CARDS).map(card)
    elif kind == "household_changed":
        own["household_id"] = st.sampled_from([None, "h1", "h2"])
    elif kind == "consent_changed":
        own["consents"] = st.dictionaries(st.sampled_from(["marketing", "profiling"]), st.booleans(), max_size=2)
    elif kind == "segments_changed":
        own |= {"segmentation": st.just("rfm"), "segments": st.sampled_from([[], ["new"], ["lost"]]), "version": st.just("v1")}
        own["as_of"] = st.just("2026-03-01")
    return st.fixed_dictionaries(own)


KINDS = ("enrolled", "identity_added", "merged", "unmerged", "household_changed", "consent_changed", "segments_changed", "erased")


@st.composite
def histories(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS) -> list[Event]:
    """Member events of few members, cards and days, so that they meet; several at the same instant as well."""
    found = []
    for number in range(draw(st.integers(1, 14))):
        kind = draw(st.sampled_from(kinds))
        found.append(said(f"e-{number}", kind, draw(st.integers(1, 9)), **draw(_data(kind))))
    return found
