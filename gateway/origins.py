"""Pages in browsers: from which origins they may call what, as the Fetch standard has it (CORS).

A browser says in the header `Origin` whose page a request comes from. Pages of the origins in `gateway_origins` may call the routes that
are marked `crossing`, and no page may call anything else: what needs no preflight would reach us all the same, from any page that somebody
on this machine has open. Programs send no `Origin` and are not concerned, nor is what only looks: without our leave a page can't read it.
"""

import re
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from tillstream.gateway.problems import Refusal, problem

ORIGIN = "Origin"

ORIGINS = re.compile(r"https?://(?:[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
"""As browsers write them: lower case, without a path, and without the port where it is the scheme's own."""

SAFE = {"GET", "HEAD"}

PREFLIGHT_S = 7_200
"""How long a browser may remember our leave; Chromium remembers none longer."""

PREFLIGHT = {
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Last-Event-ID",
    "Access-Control-Max-Age": str(PREFLIGHT_S),
}


class OriginsInvalid(ValueError):
    """The text says no origins; the message says which word is wrong and what is wanted."""


def parse_origins(text: str) -> frozenset[str]:
    """The origins in a text, parted by blanks.

    Raises:
        OriginsInvalid: one is not written as browsers write it.

    >>> sorted(parse_origins("https://shop.example.org http://localhost:8000"))
    ['http://localhost:8000', 'https://shop.example.org']
    """
    words = text.split()
    for word in words:
        if not ORIGINS.fullmatch(word) or word.endswith(":443" if word.startswith("https") else ":80"):
            message = f"{word!r} is no origin as browsers write it: scheme and host in lower case, no path, as https://shop.example.org"
            raise OriginsInvalid(message)
    return frozenset(words)


class Origins(NamedTuple):
    """Whose pages may call which paths."""

    listed: frozenset[str]
    paths: frozenset[str]

    def allow(self, request: web.Request) -> bool:
        """Whether the request comes from a page that may ask here."""
        return request.path in self.paths and request.headers.get(ORIGIN) in self.listed

    async def tell(self, request: web.Request, response: web.StreamResponse) -> None:
        """Tells the browser, in the headers of whatever is answered, whether its page may read it."""
        if request.path in self.paths:
            response.headers["Vary"] = ORIGIN
        if self.allow(request):
            response.headers["Access-Control-Allow-Origin"] = request.headers[ORIGIN]
            response.headers["Access-Control-Expose-Headers"] = "Retry-After, X-Request-Id"


def guarded(origins: Origins) -> Middleware:
    """Answers preflights, and refuses what comes from pages that may not ask it."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get(ORIGIN)
        if origin is None or request.method in SAFE:
            return await handler(request)
        if not origins.allow(request):
            paths = ", ".join(sorted(origins.paths))
            detail = f"pages of {origin[:80]!r} may not ask this; those of the origins in the setting gateway_origins may ask {paths}"
            raise Refusal(problem(403, "forbidden", detail))
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return web.Response(status=204, headers=PREFLIGHT)
        return await handler(request)

    return guard
