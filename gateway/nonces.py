"""Nonces that were used, so that a signed request counts once: in Redis for all gateways, and here while Redis does not answer.

    tillstream:nonce:<key id>:<nonce>     string, written if it was not there, fades when the request would be too old anyway

While Redis is away each gateway knows only what came to itself. Whoever recorded a request could send it again to another gateway until it
is too old; what it asks for counts once all the same, by its natural key (G2), so a till is not turned away for this.
"""

import logging
from collections import OrderedDict

from tillstream.sinks.redis import REDIS_AWAY, Redis

NONCE_KEY = "tillstream:nonce:"

HERE_MAX = 100_000
"""Remembered here at most, some 20 MB; five minutes of 300 requests a second are 90,000."""

log = logging.getLogger("tillstream.nonces")


class Nonces:
    """Remembers nonces for twice `window_s`: a request may be that much in the future, and then be that old."""

    def __init__(self, redis: Redis, window_s: int) -> None:
        self.redis = redis
        self.kept_s = 2 * window_s
        self.here: OrderedDict[str, float] = OrderedDict()

    async def is_first(self, key_id: str, nonce: str, now: float) -> bool:
        """Whether this key brings this nonce for the first time; from now on it is not. `now` is in seconds and never goes back."""
        name = f"{key_id}:{nonce}"
        while self.here and (next(iter(self.here.values())) <= now - self.kept_s or len(self.here) >= HERE_MAX):
            self.here.popitem(last=False)
        if name in self.here:
            return False
        self.here[name] = now
        try:
            return await self.redis.set(NONCE_KEY + name, b"", nx=True, ex=self.kept_s) is not None
        except REDIS_AWAY as error:
            log.warning("nonces_only_here error=%r", error)
            return True
