"""Who asks, and whether they may: each request's key, its signature, its scope and its share, before a handler sees it.

In: a request for an endpoint that has a scope. Out: the key in `request["key"]`, None where keys are off; or a problem: 401 for every
reason why it is no key, all alike; 403 for another's business; 429 with the seconds to wait.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from tillstream.gateway.keyring import Keyring
from tillstream.gateway.limits import Buckets, Rate
from tillstream.gateway.nonces import Nonces
from tillstream.gateway.permits import RouteScope, check_scope
from tillstream.gateway.problems import Refusal, problem
from tillstream.gateway.signing import Unsigned, is_signed_by, parse_headers
from tillstream.schemas.keys import Created

KEY = "key"
"""Of a request: whose it is; and the parameter of that name."""

BEARER = "Bearer "
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="tillstream"'}

Size = Callable[[bytes], int]
"""As how many requests a body counts; 1 where it is none that the endpoint takes."""


class Security:
    """Checks requests against the keys; `window_s`: how far a signed request's time may be from ours."""

    def __init__(self, keyring: Keyring, nonces: Nonces, buckets: Buckets, window_s: int) -> None:
        self.keyring = keyring
        self.nonces = nonces
        self.buckets = buckets
        self.window_s = window_s

    async def check(self, request: web.Request, scope: RouteScope, size: Size | None) -> Created:
        """The key that asks; `size`: as how many requests the body counts, None: as one.

        Raises:
            Refusal: 401, 403, 413 or 429.
        """
        if scope == "clicks" and KEY in request.query:  # Beacons can set no headers; the key stands in a page, and is nobody's secret.
            key = self._public(request.query[KEY])
        elif "Authorization" in request.headers:
            key = self._bearer(request.headers["Authorization"])
        else:
            key = await self._signer(request)
        request[KEY] = key
        check_scope(key, scope)
        if (rate := self.buckets.rates.get(key.scope)) is not None:
            self._count(key, rate, 1 if size is None else size(await request.read()))
        return key

    def _count(self, key: Created, rate: Rate, requests: int) -> None:
        limit = f"this key may ask {rate.per_s} times a second, {rate.burst} at once (setting gateway_rates)"
        if requests > rate.burst:
            raise Refusal(problem(413, "too_large", f"{requests} receipts, and {limit}; send less at once", "$.events"))
        wait_s = self.buckets.take(key.key_id, key.scope, asyncio.get_running_loop().time(), requests)
        if wait_s > 0:
            told = limit if requests == 1 else f"{requests} receipts count as many requests, and {limit}"
            raise Refusal(problem(429, "too_many_requests", f"{told}; ask again later"), {"Retry-After": str(math.ceil(wait_s))})

    def _bearer(self, given: str) -> Created:
        key = self.keyring.keys.bearer(given[len(BEARER) :].strip(), datetime.now(UTC)) if given.startswith(BEARER) else None
        if key is None:
            raise unauthorized()
        return key

    def _public(self, token: str) -> Created:
        """A key in an address: one of scope `clicks`. All others are secrets, and addresses get into logs on their way."""
        key = self._bearer(BEARER + token)
        if key.scope != "clicks":
            raise unauthorized()
        return key

    async def _signer(self, request: web.Request) -> Created:
        try:
            signed = parse_headers(request.headers)
        except Unsigned as error:
            raise unauthorized(str(error)) from None
        now = time.time()
        if signed is None or abs(signed.timestamp - now) > self.window_s:
            raise unauthorized()
        key, secret = self.keyring.keys.signing(signed.key_id, datetime.now(UTC))
        if not is_signed_by(secret, signed, request.method, request.raw_path, await request.read()) or key is None:
            raise unauthorized()
        # Only what is signed is remembered: nobody else can use up a nonce, or fill the memory of them.
        if not await self.nonces.is_first(key.key_id, signed.nonce, asyncio.get_running_loop().time()):
            raise unauthorized()
        return key


def secured(security: Security | None, scopes: Mapping[str, RouteScope], sizes: Mapping[str, Size]) -> Middleware:
    """Lets through who may; `scopes` and `sizes` by the route's name, and whoever asks for a route without scope needs no key. None: keys
    are off.
    """

    @web.middleware
    async def secure(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[KEY] = None
        name = request.match_info.route.name or ""
        scope = scopes.get(name)
        if security is not None and scope is not None:
            await security.check(request, scope, sizes.get(name))
        return await handler(request)

    return secure


def unauthorized(detail: str = "") -> Refusal:
    """The one answer for unknown keys, wrong secrets and signatures, old and repeated requests."""
    told = detail or "no valid key: Authorization: Bearer ts_..., or a signature that is new and in time; see docs/gateway-security.md"
    return Refusal(problem(401, "unauthorized", told), CHALLENGE)
