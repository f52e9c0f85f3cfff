"""A trigger in words of somebody else's interface: a request whose headers and body have placeholders, `{title}` and the like.

    body = { to = "{member_id}", text = "{title} until {expires_at}", points = "{points}" }

A text that is one placeholder and nothing else becomes its value, a number where it is one.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from tillstream.schemas.endpoints import PLACEHOLDER, Template
from tillstream.schemas.offers import Triggered, decode_trigger
from tillstream.sinks.delivery.webhook import Attempt, Poster, Request

HEADER_UNFIT = re.compile(r"[^\x20-\x7e]")
"""What can't stand in a header: line ends would begin another one."""


def values_of(trigger: Triggered) -> dict[str, str | int]:
    """What stands for each placeholder (`PLACEHOLDERS` of schemas/endpoints.py)."""
    worth = trigger.worth
    return {
        "decision_id": trigger.decision_id, "offer_id": trigger.offer_id, "title": trigger.title, "member_id": trigger.member_id,
        "account_id": trigger.account_id, "channel": trigger.channel, "why": trigger.why, "points": worth.points, "unit": worth.unit,
        "amount_off": worth.amount_off, "currency": worth.currency or "", "basis_points_off": worth.basis_points_off,
        "expires_at": trigger.expires_at.isoformat(),
    }  # fmt: skip


def filled(template: Any, values: Mapping[str, str | int]) -> Any:
    """A template with its placeholders filled in, however deep they are.

    >>> filled({"to": "{member_id}", "text": ["{title}!", 1], "n": "{points}"}, {"member_id": "m1", "title": "{points}", "points": 5})
    {'to': 'm1', 'text': ['{points}!', 1], 'n': 5}
    """
    if isinstance(template, dict):
        return {name: filled(value, values) for name, value in template.items()}
    if isinstance(template, list):
        return [filled(value, values) for value in template]
    if not isinstance(template, str):
        return template
    if whole := PLACEHOLDER.fullmatch(template):
        return values[whole[1]]
    return PLACEHOLDER.sub(lambda found: str(values[found[1]]), template)


class TemplateSender:
    """Sends by a template; `headers` have their secrets in place of where those are."""

    def __init__(self, template: Template, headers: Mapping[str, str]) -> None:
        self.template = template
        self.headers = headers

    async def send(self, poster: Poster, decision_id: str, raw: bytes, now_s: int) -> Attempt:
        """One attempt."""
        values = values_of(decode_trigger(raw).data)
        headers = {name: HEADER_UNFIT.sub("?", str(filled(value, values))) for name, value in self.headers.items()}
        body = msgspec.json.encode(filled(self.template.body, values))
        request = Request(self.template.method, self.template.url, {"Content-Type": "application/json", **headers}, body)
        return await poster.post(request, self.template.timeout_s)
