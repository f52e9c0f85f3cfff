"""An endpoint as a worker has it: what it wants, and how it is sent to."""

import re
from typing import Protocol

from tillstream.kernels.globs import compile_glob
from tillstream.schemas.endpoints import Endpoint
from tillstream.schemas.offers import Triggered
from tillstream.sinks.delivery.webhook import Attempt, Poster


class Sender(Protocol):
    """What makes one attempt, in the way of its kind of endpoint."""

    async def send(self, poster: Poster, decision_id: str, raw: bytes, now_s: int) -> Attempt:
        """One attempt to deliver the trigger `raw`, at `now_s`, seconds since 1970."""


class Target:
    """One endpoint."""

    def __init__(self, endpoint: Endpoint, sender: Sender) -> None:
        self.endpoint = endpoint
        self.sender = sender
        self.offers: list[re.Pattern[str]] = [compile_glob(offer) for offer in endpoint.offers]

    def wants(self, trigger: Triggered) -> bool:
        """Whether the trigger is to be delivered there."""
        own = not self.endpoint.channels or trigger.channel in self.endpoint.channels
        return own and (not self.offers or any(offer.fullmatch(trigger.offer_id) for offer in self.offers))
