"""What became of an offer: shops and tills say so, by the decision's id -> the topic `outcomes`.

Delivery: at least once; an outcome's id is made of the decision's, so that said again it counts once.
"""

from datetime import UTC, datetime

import msgspec

from tillstream.gateway.answers import Taken
from tillstream.gateway.clicks import away
from tillstream.gateway.problems import Refusal, problem
from tillstream.gateway.producer import KafkaAway, LaneFull
from tillstream.gateway.routes import Answer, Call
from tillstream.gateway.writes import Handler
from tillstream.kernels.instants import instant_ms
from tillstream.schemas.offers import OFFERS_SOURCE, ClickedEvent, Outcome, RedeemedEvent, ShownEvent
from tillstream.sinks.offers import OfferStore
from tillstream.sinks.writer import Record
from tillstream.streams.topics import OUTCOMES

_encode = msgspec.json.Encoder().encode


def answers(kind: type[ShownEvent | ClickedEvent | RedeemedEvent]) -> Handler:
    """A handler that says of a decision what `kind` says."""
    word = str(kind.__struct_config__.tag).rpartition(".")[2]

    async def handler(call: Call) -> Answer:
        decision, now = call.path("decision_id"), datetime.now(UTC)
        store = OfferStore(call.gateway.redis)
        member = await store.member_of(decision)
        if member is None:
            raise Refusal(problem(404, "not_found", f"no offer {decision[:80]!r} can be answered now; its time may be up"))
        event = kind(specversion="1.0", id=f"{decision}/{word}", source=OFFERS_SOURCE, time=now, data=Outcome(decision_id=decision))
        try:
            await call.gateway.clicks.submit([Record(OUTCOMES, decision.encode(), _encode(event))])
        except (KafkaAway, LaneFull) as error:
            raise away(error) from None
        if kind is RedeemedEvent:
            await store.redeem(member, decision, instant_ms(now))
        return Answer(Taken(1, []), 202)

    return handler
