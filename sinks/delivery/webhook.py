"""A trigger to a webhook, in the format of Standard Webhooks (https://www.standardwebhooks.com).

    POST <url>
    webhook-id: <decision id>              the same at every attempt
    webhook-timestamp: <seconds>           of this attempt
    webhook-signature: v1,<base64> ...     HMAC-SHA256 of `id.timestamp.body`, one for each secret
    {"type": "offer.triggered", "timestamp": ..., "data": {...}}

Delivery: at least once; the receiver tells repeats by `webhook-id`.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import msgspec
from msgspec import Raw, Struct

from tillstream.schemas.endpoints import Webhook
from tillstream.sinks.delivery.addresses import PublicResolver, check_host

SECRET_PREFIX = "whsec_"

SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
"""As the specification has them."""

ANSWER_BYTES_MAX = 16_384
"""Of an answer's body, which nobody reads: so much is taken off the connection so that it can be used again."""

USER_AGENT = "tillstream"

Result = Literal["delivered", "failed", "refused", "gone"]
"""Taken; to be tried again; never taken, this one; never anything any more."""


class Attempt(NamedTuple):
    """What came of one attempt; `retry_after_s` is what the receiver asked for, 0 where nothing."""

    result: Result
    reason: str = ""
    retry_after_s: int = 0


class Request(NamedTuple):
    """What is sent."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class Event(Struct):
    """What of a trigger goes out, its data as they are."""

    type: str
    time: str
    data: Raw


class SecretInvalid(ValueError):
    """The text is no secret of a webhook."""


def parse_secret(text: str) -> bytes:
    """The key in `whsec_...`.

    Raises:
        SecretInvalid: it is none, or not of 24 to 64 bytes.
    """
    try:
        key = base64.b64decode(text.strip().removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise SecretInvalid("is not whsec_ and base64") from None
    if not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise SecretInvalid(f"has {len(key)} bytes; {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} are wanted")
    return key


def signature(keys: Sequence[bytes], name: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`."""
    signed = b"%b.%d.%b" % (name.encode(), timestamp, body)
    return " ".join("v1," + base64.b64encode(hmac.digest(key, signed, sha256)).decode() for key in keys)


def body_of(raw: bytes) -> bytes:
    """The body that is posted, made of a trigger's record; the same bytes at every attempt."""
    event = msgspec.json.decode(raw, type=Event)
    return msgspec.json.encode({"type": event.type, "timestamp": event.time, "data": event.data})


class Poster:
    """Posts to endpoints; `private`: whether any address will do."""

    def __init__(self, private: bool) -> None:
        self.private = private
        self.session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self.session is not None:
            await self.session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self.session is None:
            connector = aiohttp.TCPConnector(limit=0, resolver=None if self.private else PublicResolver())
            self.session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self.session

    async def post(self, request: Request, timeout_s: int) -> Attempt:
        """One attempt; never raises for what a receiver does."""
        headers = {"User-Agent": USER_AGENT, **request.headers}
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            if not self.private:
                check_host(urlsplit(request.url).hostname or "")
                if not request.url.startswith("https:"):
                    return Attempt("failed", "http:// is for private addresses only (setting deliver_private)")
            how: Any = {"headers": headers, "allow_redirects": False, "timeout": timeout}
            async with self._open().request(request.method, request.url, data=request.body, **how) as answer:
                await answer.content.read(ANSWER_BYTES_MAX)
                return attempt_of(answer.status, answer.headers.get("Retry-After", ""))
        except TimeoutError:
            return Attempt("failed", f"no answer within {timeout_s} s")
        except (aiohttp.ClientError, OSError) as error:
            return Attempt("failed", f"{type(error).__name__}: {error}"[:200])


class WebhookSender:
    """Sends signed by `keys`."""

    def __init__(self, endpoint: Webhook, keys: Sequence[bytes]) -> None:
        self.endpoint = endpoint
        self.keys = keys

    async def send(self, poster: Poster, decision_id: str, raw: bytes, now_s: int) -> Attempt:
        """One attempt to deliver the trigger `raw`, at `now_s`, seconds since 1970."""
        body = body_of(raw)
        headers = {
            "Content-Type": "application/json", "webhook-id": decision_id, "webhook-timestamp": str(now_s),
            "webhook-signature": signature(self.keys, decision_id, now_s, body),
        }  # fmt: skip
        return await poster.post(Request("POST", self.endpoint.url, headers, body), self.endpoint.timeout_s)


def attempt_of(status: int, retry_after: str) -> Attempt:
    """What a status means: 2xx is taken, 410 ends it all, a redirect is not followed, everything else is tried again."""
    if 200 <= status < 300:
        return Attempt("delivered")
    if status == 410:
        return Attempt("gone", "410: the endpoint is no more")
    asked = int(retry_after) if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 9 else 0
    return Attempt("failed", f"status {status}", asked)
