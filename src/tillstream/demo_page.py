"""One visit of the demo to the shop's page: a member agrees to offers and looks around, and an offer is out while the page is open.

Through a gateway, as a shop and a campaign manager would do it.
"""

import asyncio
import time
from typing import Any
from urllib.parse import quote

import aiohttp

from tillstream.demo_till import ms_since
from tillstream.errors import TillstreamError
from tillstream.schemas.offers import Triggered, decode_trigger

LOOKS = 3
CHEESE = {"item_id": "page-1", "item_category": "grocery/cheese/blue"}
"""What the demo's offer waits for: three looks at cheese."""

WAIT_S = 10.0
"""The workers have little else to do; a slow machine may take its time."""


async def visit(address: str, member_id: str) -> dict[str, Any]:
    """What the campaign manager saw, and how long after the page view it was there, milliseconds.

    Raises:
        TillstreamError: the gateway does not answer, or nothing is triggered.
    """
    try:
        async with asyncio.timeout(WAIT_S), aiohttp.ClientSession(address, raise_for_status=True) as page:
            await agree(page, member_id)
            async with page.get("/v1/triggers/stream") as listening:
                started = time.perf_counter()
                await look(page, member_id)
                trigger = await first_trigger(listening)
                return {"title": trigger.title, "why": trigger.why, "channel": trigger.channel, "trigger_ms": ms_since(started)}
    except (aiohttp.ClientError, TimeoutError) as error:
        raise TillstreamError(f"the page view led to no offer: {error or f'nothing within {WAIT_S:.0f} s'}") from None


async def agree(page: aiohttp.ClientSession, member_id: str) -> None:
    """The member agrees to offers made for them; returns when workers know."""
    consents = {"data": {"consents": {"marketing": True, "personalised": True}}}
    prefer = {"Prefer": f"wait={round(WAIT_S * 1000)}"}
    async with page.post(f"/v1/members/{quote(member_id, safe='')}/consents", json=consents, headers=prefer):
        pass


async def look(page: aiohttp.ClientSession, member_id: str) -> None:
    """Page views in one batch, as the browser's script sends them."""
    view = {"name": "view_item", "params": {"page_location": "/cheese", "items": [CHEESE]}}
    member = {"scheme": "member", "value": member_id}
    async with page.post("/v1/events", json={"visitor_id": "demo", "session_id": "demo", "member": member, "events": [view] * LOOKS}):
        pass


async def first_trigger(listening: aiohttp.ClientResponse) -> Triggered:
    """The first trigger of a stream of server-sent events."""
    async for line in listening.content:
        field, _, value = line.decode().strip().partition(": ")
        if field == "data":
            return decode_trigger(value.encode()).data
    raise aiohttp.ClientPayloadError("the stream of triggers ended")
