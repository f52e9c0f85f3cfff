"""`POST /v1/identify`: who stands at the till, and what they have."""

from datetime import UTC, datetime

import msgspec

from tillstream.gateway.answers import Identified, OpenOffer
from tillstream.gateway.basis import snapshot_of
from tillstream.gateway.bodies import IdentifyBody, decoded
from tillstream.gateway.routes import Answer, Call
from tillstream.gateway.standing import Open
from tillstream.kernels.instants import instant_of
from tillstream.kernels.offering import worth_of
from tillstream.schemas.receipts import Identity

SHOWN = 4
"""The end of a card or number that a cashier may see; of a value that is not at least twice as long, nothing is shown."""

NAME = "first_name"
"""The attribute of an enrolment that a cashier may greet by."""

_body = msgspec.json.Decoder(IdentifyBody)


async def identify(call: Call) -> Answer:
    """The member's first name, tier, balances and open offers; somebody unknown gets the same answer, with nothing in it."""
    asked = decoded(_body, call.body)
    standings = call.gateway.standings
    identity = call.gateway.seal.sealed(asked.identity)
    standing = await standings.of_identity(identity, datetime.now(UTC))
    return Answer(
        Identified(
            name=first_name(standing.profile.get("attributes", {}).get(NAME)) or masked(asked.identity),
            tier=standings.tier(standing),
            currency=standings.program_on(standings.today()).program.currency,
            balances=standings.balances(standing),
            offers=[shown(one) for one in standing.offers],
            snapshot=await snapshot_of(call.gateway, identity, standing) if asked.with_snapshot else None,
        )
    )


def shown(one: Open) -> OpenOffer:
    """An offer as a cashier sees it."""
    goods = one.offer.goods
    return OpenOffer(
        decision_id=one.made.decision_id,
        offer_id=one.offer.id,
        title=one.offer.title,
        worth=worth_of(one.offer, one.currency),
        expires_at=instant_of(one.made.ends_ms),
        sku=goods.sku or [],
        category=goods.category or [],
    )


def first_name(value: object) -> str:
    """What an enrolment has under that name, if it is a text."""
    return value.strip() if isinstance(value, str) else ""


def masked(identity: Identity) -> str:
    """What somebody showed, but for its end.

    >>> masked(Identity("card", "2901234567890")), masked(Identity("email", "jan@example.org")), masked(Identity("app", "77"))
    ('card …7890', 'email …@example.org', 'app …')
    """
    value = identity.value.strip()
    if identity.scheme == "email" and "@" in value:
        return f"email …@{value.rpartition('@')[2]}"
    return f"{identity.scheme} …{value[-SHOWN:] if len(value) >= 2 * SHOWN else ''}"
