"""Personal values in what is logged, masked: by the name of their field, and wherever one looks like a card, a phone or an e-mail address.

In: a structlog event, or a log record of the standard library. Out: the same, with `***` in place of what may be of a person. Too much is
masked rather than too little: an EAN has as many digits as a card.
"""

import logging
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

MASK = "***"

PERSONAL = frozenset(
    {
        *("value", "identity", "identities", "member", "to", "card", "phone", "email"),
        *("birth_date", "attributes", "name", "first_name", "last_name"),
    }
)
"""Fields that are masked whatever they hold; `value` is that of an identity."""

SECRET = frozenset({"authorization", "token", "secret", "kept", "signature", "password", "identity_key"})

MASKED_FIELDS = PERSONAL | SECRET

LOOKS_PERSONAL = re.compile(
    r"""
    [^\s@"'<>=,;:(\[{]+ (?: @ | %40 ) [^\s@"'<>,;)\]}]+   # an e-mail address, also in a URL
    | ts_[0-9a-f]{16}_\w+                              # a key
    | (?<![\w-]) [0-9A-TV-Z]{4} (?: - [0-9A-TV-Z]{4} ){3} (?![\w-])   # a voucher's code
    | (?-i: (?<!\w) (?=[0-9]*[A-Z]) [0-9A-TV-Z]{16} (?!\w) )   # the same without hyphens
    | (?<![\w]) \+? \d (?: (?: [\s().-]|%20 )? \d ){8,}      # nine digits and more, in groups or not: a card, a phone
    """,
    re.VERBOSE | re.IGNORECASE,
)


def masked_text(text: str) -> str:
    """The text without what looks personal.

    >>> masked_text("card 2901234567890, phone +48 601 234 567, jan@example.org, receipt PL-0001/3/2026-03-07/000123")
    'card ***, phone ***, ***, receipt PL-0001/3/2026-03-07/000123'
    """
    return LOOKS_PERSONAL.sub(MASK, text)


def masked(value: Any) -> Any:
    """A value of a log event, also a nested one, masked.

    >>> masked({"receipt_id": "r1", "member": {"scheme": "card", "value": "2901"}, "ids": ["jan@example.org"]})
    {'receipt_id': 'r1', 'member': '***', 'ids': ['***']}
    """
    if isinstance(value, str):
        return masked_text(value)
    if isinstance(value, bytes):
        return masked_text(value.decode(errors="replace"))
    if isinstance(value, Mapping):
        return {name: MASK if str(name).lower() in MASKED_FIELDS else masked(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [masked(item) for item in value]
    return value if isinstance(value, int | float | bool | None) else masked_text(str(value))


def mask_event(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """structlog's processor; what it adds itself, as the time, is added behind it."""
    return {name: MASK if name.lower() in MASKED_FIELDS else masked(value) for name, value in event.items()}


def mask_handlers() -> None:
    """Puts `Masking` on the root logger's handlers, and `mask_event` in front of structlog's other processors."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(Masking())
    structlog.configure(processors=[mask_event, *structlog.get_config()["processors"]])


class Masking(logging.Filter):
    """The same for the standard library's records, message and traceback, put on a handler; nothing is left out of the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = masked_text(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = masked_text(record.exc_text)
        return True
