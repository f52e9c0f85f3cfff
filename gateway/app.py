"""The aiohttp application: the table of routes behind the middlewares, and the document that describes it.

    request ─ id ─ figures ─ problems ─ origins ─ handler ─► Redis (identify, quote, statuses)
                                                       │ Kafka (page views) │ Kafka ─ worker ─ Redis channel (everything else)
                                                       │ Kafka ─ feed (streams of triggers)
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from aiohttp import web

from tillstream.gateway.limits import DEPTH_MAX, is_too_deep
from tillstream.gateway.middlewares import Handler, middlewares, name_response
from tillstream.gateway.openapi import document
from tillstream.gateway.origins import Origins, parse_origins
from tillstream.gateway.page import page
from tillstream.gateway.problems import Refusal, problem, refusal
from tillstream.gateway.routes import Answer, Call, Route
from tillstream.gateway.runtime import Gateway
from tillstream.gateway.table import ROUTES
from tillstream.schemas.events import Malformed

GATEWAY = web.AppKey("gateway", Gateway)

ANSWER_S = 0.9
"""What only looks something up answers within this, or says that it cannot: a till never hangs."""

_encode = msgspec.json.Encoder().encode


def create_app(gateway: Gateway) -> web.Application:
    """The application; it connects when it starts and closes what it opened when it ends."""
    scopes = {route.name: route.scope for route in ROUTES if route.scope is not None}
    origins = Origins(parse_origins(gateway.settings.gateway_origins), frozenset(route.path for route in ROUTES if route.crossing))
    sizes = {route.name: route.size for route in ROUTES if route.size is not None}
    app = web.Application(middlewares=middlewares(gateway, scopes, sizes, origins), client_max_size=gateway.settings.gateway_body_bytes_max)
    app[GATEWAY] = gateway
    app.on_response_prepare.extend((origins.tell, name_response))
    app.on_shutdown.append(end_streams)
    app.cleanup_ctx.append(connected)
    for route in ROUTES:
        app.router.add_route(route.method, pattern(route.path), handled(route), name=route.name)
    described = document(ROUTES, keys=gateway.security is not None)
    app.router.add_get("/openapi.json", fixed(_encode(described), "application/json"), name="openapi")
    app.router.add_get("/docs", fixed(page(described).encode(), "text/html"), name="docs")
    return app


async def end_streams(app: web.Application) -> None:
    """Before the requests in progress are waited for: streams would go on for ever."""
    app[GATEWAY].feed.end_all()


async def connected(app: web.Application) -> AsyncIterator[None]:
    """Connects, and closes at the end, when the requests in progress have had their answers."""
    await app[GATEWAY].start()
    yield
    await app[GATEWAY].stop()


def pattern(path: str) -> str:
    """The path as aiohttp takes it: no receipt is called `batch`, since that is another endpoint."""
    return path.replace("/v1/receipts/{id}", "/v1/receipts/{id:(?!batch$)[^/]+}")


def handled(route: Route) -> Handler:
    """What aiohttp calls for a route."""

    async def handler(request: web.Request) -> web.StreamResponse:
        body = await body_of(request, route)
        if is_too_deep(body):
            raise refusal(Malformed("too_deep", "$", f"is nested deeper than {DEPTH_MAX} levels"))
        async with asyncio.timeout(None if route.patient else ANSWER_S):
            answer = await route.handler(Call(request.app[GATEWAY], request, body))
            return response(answer) if isinstance(answer, Answer) else answer

    return handler


async def body_of(request: web.Request, route: Route) -> bytes:
    """The request's body; empty where the route takes none.

    Raises:
        Refusal: 413, it is longer than such a body may be.
    """
    if route.takes is None:
        return b""
    bytes_max = route.body_bytes_max
    body = b"" if bytes_max is not None and (request.content_length or 0) > bytes_max else await request.read()
    if bytes_max is not None and max(request.content_length or 0, len(body)) > bytes_max:
        raise Refusal(problem(413, "too_large", f"the body is longer than {bytes_max} bytes; send less at once"))
    return body


def response(answer: Answer) -> web.Response:
    """An answer as aiohttp sends it."""
    body = _encode(answer.value) if answer.content_type == "application/json" else answer.value
    headers = {**answer.headers, "Content-Type": answer.content_type}
    return web.Response(body=body, status=answer.status, headers=headers)


def fixed(body: bytes, content_type: str) -> Handler:
    """A handler that always answers the same."""

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type=content_type, charset="utf-8" if content_type == "text/html" else None)

    return handler
