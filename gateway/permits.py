"""What a key may do: by its scope, which endpoints; of a till's key, whose receipts.

    key        endpoints of scope
    till       till, look      receipts, holds and the like, as its own stores only
    read       read, look
    clicks     clicks             so that it may stand in a page
    members    members, read, look
    campaigns  campaigns, look
    admin      all
"""

from collections.abc import Mapping
from typing import Literal

from tillstream.gateway.composing import OURS, TILLS
from tillstream.gateway.keys import has_store
from tillstream.gateway.problems import Refusal, problem
from tillstream.schemas.events import Event, Malformed, ReturnEvent, SaleEvent
from tillstream.schemas.keys import Created, Scope

RouteScope = Literal["till", "look", "read", "clicks", "campaigns", "members", "admin"]
"""What an endpoint is for: `look` changes nothing and tells what a till has to know; `read` tells everything of a member."""

MAY: Mapping[Scope, frozenset[RouteScope]] = {
    "till": frozenset({"till", "look"}),
    "read": frozenset({"read", "look"}),
    "clicks": frozenset({"clicks"}),
    "members": frozenset({"members", "read", "look"}),
    "campaigns": frozenset({"campaigns", "look"}),
    "admin": frozenset({"till", "look", "read", "clicks", "campaigns", "members", "admin"}),
}


def check_scope(key: Created, scope: RouteScope) -> None:
    """Raises Refusal (403) where the key is not for such endpoints."""
    if scope not in MAY[key.scope]:
        wanted = ", ".join(name for name in MAY if scope in MAY[name])
        raise forbidden(f"a key of scope {key.scope} is not for this; one of {wanted} is")


def check_source(key: Created | None, source: str) -> None:
    """Raises Refusal (403) where a till's key asks for, or speaks as, another store."""
    if key is not None and key.scope == "till" and not is_own(key, source):
        raise forbidden(f"source {source[:80]!r}: this key is of the stores {', '.join(key.stores)}, whose sources are {TILLS}<store>")


def check_event(key: Created | None, event: Event) -> None:
    """Whether a key may send this event; None: nobody has keys.

    Raises:
        Malformed: a till's key, and an event of another store; names the field.
    """
    if key is None or key.scope != "till":
        return
    stores = ", ".join(key.stores)
    if isinstance(event, SaleEvent | ReturnEvent) and not has_store(key, event.data.store_id):
        raise Malformed("forbidden", "$.data.store_id", f"{event.data.store_id!r} is none of this key's stores: {stores}")
    if isinstance(event, SaleEvent | ReturnEvent) and event.source != TILLS + event.data.store_id:
        raise Malformed("forbidden", "$.source", f"{event.source!r} is not {TILLS}{event.data.store_id}; leave it out")
    if event.source != OURS and not is_own(key, event.source):
        raise Malformed("forbidden", "$.source", f"{event.source!r} is of none of this key's stores: {stores}")


def is_own(key: Created, source: str) -> bool:
    """Whether a source is one of a till's own stores."""
    return source.startswith(TILLS) and has_store(key, source.removeprefix(TILLS))


def forbidden(detail: str) -> Refusal:
    return Refusal(problem(403, "forbidden", detail))
