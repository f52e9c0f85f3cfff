"""One endpoint, declared: what it takes, what it answers, who may call it. The table of them is in table.py.

From a `Route` come the aiohttp route (app.py), its page in the OpenAPI document (openapi.py) and the scope that a key needs.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, NamedTuple

from aiohttp import web
from msgspec import Struct

from tillstream.gateway.permits import RouteScope
from tillstream.gateway.runtime import Gateway
from tillstream.gateway.security import KEY, Size
from tillstream.schemas.keys import Created


class Parameter(NamedTuple):
    """A parameter in the query string or in a header; those in the path are read off the path."""

    name: str
    summary: str
    kind: type = str
    place: Literal["query", "header"] = "query"
    required: bool = False


class Call(NamedTuple):
    """One request on its way through a handler; `body` is empty where the route takes none."""

    gateway: Gateway
    request: web.Request
    body: bytes

    def path(self, name: str) -> str:
        """A parameter of the path, decoded."""
        return self.request.match_info[name]

    @property
    def key(self) -> Created | None:
        """Whose request it is; None: keys are off."""
        key: Created | None = self.request.get(KEY)
        return key


class Answer(NamedTuple):
    """What a handler gives back: `value` is encoded as JSON; of another `content_type` it is bytes already."""

    value: Any
    status: int = 200
    headers: Mapping[str, str] = {}
    content_type: str = "application/json"


class Route(Struct, frozen=True, kw_only=True):
    """One endpoint.

    Attributes:
        name: what metrics, log and clients call it (`operationId`).
        scope: what a key must be for (permits.py); None: open to everybody who reaches the port.
        takes: type of the JSON body; None: no body.
        answers: type of the JSON body by status; a content type where the body is something else; problems go without saying.
        handler: what answers; a stream answers by itself.
        patient: whether it may take longer than a second: it waits for a worker, reads history, or is a stream.
        also: content types beside JSON that the caller may accept.
        body_bytes_max: the longest body, bytes; None: what the setting `gateway_body_bytes_max` says.
        size: as how many requests of its key a body counts (security.py); None: as one.
        crossing: whether pages of the origins in `gateway_origins` may call it (origins.py).
    """

    method: Literal["GET", "POST"]
    path: str
    name: str
    summary: str
    handler: Callable[[Call], Awaitable[Answer | web.StreamResponse]]
    answers: Mapping[int, Any]
    scope: RouteScope | None = None
    takes: Any = None
    parameters: tuple[Parameter, ...] = ()
    patient: bool = False
    also: tuple[str, ...] = ()
    body_bytes_max: int | None = None
    size: Size | None = None
    crossing: bool = False
