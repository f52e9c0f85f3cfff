"""What every request goes through, outermost first: its id, figures, the audit log, problems, origins, keys. `middlewares` is the list."""

import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from tillstream.gateway.audit import audited
from tillstream.gateway.metrics import Metrics
from tillstream.gateway.origins import Origins, guarded
from tillstream.gateway.permits import RouteScope
from tillstream.gateway.problems import PROBLEM_JSON, Problem, Refusal, named, problem, unavailable
from tillstream.gateway.runtime import Gateway
from tillstream.gateway.security import Size, secured
from tillstream.sinks.redis import REDIS_AWAY

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

REQUEST_ID = "X-Request-Id"
REQUEST_IDS = re.compile(r"[\x21-\x7e]{1,128}")
"""Ids that a caller may give: printable, so that they can stand in a log and in a header."""

SERVER = "tillstream"
"""In place of the versions of what we are built on, which are nobody's business."""

CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type"}

log = logging.getLogger("tillstream.gateway")


def middlewares(
    gateway: Gateway, scopes: Mapping[str, RouteScope], sizes: Mapping[str, Size], origins: Origins
) -> list[Middleware]:
    """Outermost first; `scopes` and `sizes` by the route's name."""
    tells, secures = audited(gateway.events, scopes), secured(gateway.security, scopes, sizes)
    return [identified, measured(gateway.metrics), tells, with_problems, guarded(origins), secures]


@web.middleware
async def identified(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Gives the request its caller's id, or one of ours; `name_response` says it in the answer."""
    given = request.headers.get(REQUEST_ID, "")
    request["id"] = given if REQUEST_IDS.fullmatch(given) else secrets.token_hex(8)
    return await handler(request)


async def name_response(request: web.Request, response: web.StreamResponse) -> None:
    """Says the request's id in the answer, before anything of it is sent."""
    response.headers[REQUEST_ID] = request["id"]
    response.headers["Server"] = SERVER


def measured(metrics: Metrics) -> Middleware:
    """Counts answers and seconds by route; of a stream, which has no answer's end, no seconds."""

    @web.middleware
    async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        response = await handler(request)
        seconds = time.perf_counter() - started if isinstance(response, web.Response) else None
        metrics.note(request.match_info.route.name or "none", response.status, seconds)
        return response

    return measure


@web.middleware
async def with_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns whatever goes wrong into problem details; the caller never sees a traceback."""
    try:
        return await handler(request)
    except Refusal as refused:
        return problem_response(request, refused.problem, refused.headers)
    except web.HTTPException as error:
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        code = CODES.get(error.status, "invalid")
        return problem_response(request, problem(error.status, code, detail_of(request, error)), headers)
    except REDIS_AWAY as error:
        log.warning("away request=%s error=%r", request["id"], error)
        away = unavailable("Redis")
        return problem_response(request, away.problem, away.headers)
    except Exception:
        log.exception("failed request=%s", request["id"])
        return problem_response(request, problem(500, "failed", "an error of ours; the log has it under the request's id"))


def detail_of(request: web.Request, error: web.HTTPException) -> str:
    """What HTTP's own errors mean here, and what to do."""
    if error.status == 404:
        return f"there is no {request.path}; GET /openapi.json lists what there is"
    if error.status == 405:
        return f"{request.method} is not for {request.path}; {error.headers.get('Allow', '')} is"
    if error.status == 413:
        return "the body is longer than the setting gateway_body_bytes_max allows; send less at once"
    return error.reason


def problem_response(request: web.Request, known: Problem, headers: dict[str, str] | None = None) -> web.Response:
    """The problem as an answer."""
    body = msgspec.json.encode(named(known, request["id"]))
    return web.Response(body=body, status=known.status, content_type=PROBLEM_JSON, headers=headers)
