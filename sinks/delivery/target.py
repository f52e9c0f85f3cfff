"""An endpoint as a worker has it: with its keys, and its offers as patterns."""

import re
from collections.abc import Sequence

from tillstream.kernels.globs import compile_glob
from tillstream.schemas.endpoints import Webhook
from tillstream.schemas.offers import Triggered
from tillstream.sinks.delivery.webhook import Attempt, Poster


class Target:
    """One endpoint."""

    def __init__(self, endpoint: Webhook, keys: Sequence[bytes]) -> None:
        self.endpoint = endpoint
        self.keys = keys
        self.offers: list[re.Pattern[str]] = [compile_glob(offer) for offer in endpoint.offers]

    def wants(self, trigger: Triggered) -> bool:
        """Whether the trigger is to be delivered there."""
        own = not self.endpoint.channels or trigger.channel in self.endpoint.channels
        return own and (not self.offers or any(offer.fullmatch(trigger.offer_id) for offer in self.offers))

    async def send(self, poster: Poster, decision_id: str, raw: bytes, now_s: int) -> Attempt:
        """One attempt."""
        return await poster.post(self.endpoint, self.keys, decision_id, raw, now_s)
