"""Where triggers are delivered to: the file that the setting `endpoints` names, as types, and all that is wrong with one.

    [[endpoints]]
    kind = "webhook"                       signed, in the format of Standard Webhooks
    id = "crm"
    url = "https://crm.example.org/hooks"
    secrets = ["env:CRM_SECRET"]           `whsec_...`; several while they are exchanged
    channels = ["app"]
    offers = ["cheese-*"]

    [[endpoints]]
    kind = "template"                      a request as somebody else's interface wants it
    id = "sms"
    url = "https://sms.example.org/messages"
    headers = { Authorization = "env:SMS_TOKEN" }
    body = { to = "{member_id}", text = "{title}" }
"""

import re
import tomllib
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from tillstream.schemas.fields import Identifier
from tillstream.schemas.mistakes import Mistake, nearest

Seconds = Annotated[int, Meta(ge=1, le=172_800)]
"""Up to two days: beyond that no offer waits."""

SCHEDULE_S = (5, 60, 300, 1_800, 7_200, 18_000, 36_000)
"""Between attempts: eight in some eighteen hours, as Standard Webhooks proposes it."""

SECRET_PLACE = re.compile(r"(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)")

ADDRESS = re.compile(r"https?://(?P<place>[^/?#\s\\]+)([/?#][^\s\\]*)?")

PLACEHOLDER = re.compile(r"\{(\w+)\}")

PLACEHOLDERS = (
    "decision_id", "offer_id", "title", "member_id", "account_id", "channel", "why", "points", "unit", "amount_off", "currency",
    "basis_points_off", "expires_at",
)  # fmt: skip
"""What templates may name of a trigger."""

ENDPOINTS_MAX = 100


class Endpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every kind has.

    Attributes:
        channels: the channels whose triggers it gets; empty: all.
        offers: globs of the offers; empty: all.
        timeout_s: how long one attempt may take, seconds.
        at_once: attempts on their way at once.
        schedule_s: seconds from one attempt to the next; so many attempts, and one.
    """

    id: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]*$", max_length=64)]
    channels: list[Identifier] = []
    offers: list[Identifier] = []
    timeout_s: Annotated[int, Meta(ge=1, le=30)] = 10
    at_once: Annotated[int, Meta(ge=1, le=100)] = 4
    schedule_s: Annotated[list[Seconds], Meta(max_length=20)] = field(default_factory=lambda: list(SCHEDULE_S))


class Webhook(Endpoint, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="webhook"):
    """An address that takes signed events; `secrets` are places of secrets, `env:NAME` or `file:PATH`."""

    url: Annotated[str, Meta(max_length=2_000)]
    secrets: Annotated[list[str], Meta(min_length=1, max_length=4)]


class Template(Endpoint, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="template"):
    """A request by a template; values of `headers` may be places of secrets. Placeholders, `PLACEHOLDERS`, may stand in all texts."""

    url: Annotated[str, Meta(max_length=2_000)]
    body: dict[str, Any]
    method: Literal["POST", "PUT"] = "POST"
    headers: dict[Annotated[str, Meta(pattern="^[A-Za-z0-9-]+$", max_length=64)], str] = {}


class Mail(Endpoint, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="mail"):
    """E-mails by SMTP; placeholders may stand in `subject` and `text`.

    Attributes:
        security: `starttls` (port 587), `tls` from the beginning (465), or `none`, for a server on the same machine.
        ca: PEM file of the authorities by which the server's certificate is checked; empty: those that the system trusts.
        user: empty: the server wants no password.
        password: the place of the password.
        addresses: path of a CSV file with the columns `member_id` and `email`.
    """

    server: Identifier
    sender: Annotated[str, Meta(pattern=r"^[^\r\n@]*@[^\r\n@]+$", max_length=256)]
    subject: Annotated[str, Meta(min_length=1, max_length=256)]
    text: Annotated[str, Meta(min_length=1, max_length=10_000)]
    addresses: Annotated[str, Meta(min_length=1)]
    port: Annotated[int, Meta(ge=1, le=65_535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    ca: str = ""
    user: str = ""
    password: str = ""


AnyEndpoint = Webhook | Template | Mail


class Endpoints(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    endpoints: Annotated[list[AnyEndpoint], Meta(min_length=1, max_length=ENDPOINTS_MAX)]


class InvalidEndpoints(Exception):
    """A file with mistakes: all of them are in `mistakes`."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = mistakes


def parse_endpoints(text: str) -> list[AnyEndpoint]:
    """The endpoints in a file.

    Raises:
        InvalidEndpoints: with its mistakes, each with its path.
    """
    try:
        found = msgspec.convert(tomllib.loads(text), Endpoints)
    except tomllib.TOMLDecodeError as error:
        raise InvalidEndpoints([Mistake("$", f"not TOML: {error}")]) from None
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        raise InvalidEndpoints([Mistake(path.rstrip("`") or "$", message, "docs/delivery.md shows the keys")]) from None
    if mistakes := list(mistakes_of(found)):
        raise InvalidEndpoints(mistakes)
    return found.endpoints


def mistakes_of(found: Endpoints) -> Iterator[Mistake]:
    """What the types do not say."""
    known: set[str] = set()
    for number, endpoint in enumerate(found.endpoints):
        path = f"$.endpoints[{number}]"
        if endpoint.id in known:
            yield Mistake(f"{path}.id", f"{endpoint.id!r} is there twice", "deliveries are known by it: give each its own")
        known.add(endpoint.id)
        if isinstance(endpoint, Mail):
            yield from mail_mistakes(endpoint, path)
            continue
        yield from address_mistakes(endpoint.url, f"{path}.url")
        if isinstance(endpoint, Template):
            yield from template_mistakes(endpoint.headers, f"{path}.headers")
            yield from template_mistakes(endpoint.body, f"{path}.body")
            continue
        for place, secret in enumerate(endpoint.secrets):
            if not SECRET_PLACE.fullmatch(secret):
                yield Mistake(f"{path}.secrets[{place}]", "is no place of a secret", "env:NAME or file:PATH, never the secret itself")


def mail_mistakes(mail: Mail, path: str) -> Iterator[Mistake]:
    """What is wrong with an endpoint for e-mails."""
    yield from template_mistakes({"subject": mail.subject, "text": mail.text}, path)
    if bool(mail.user) != bool(mail.password):
        yield Mistake(f"{path}.password", "user and password go together", "set both, or none")
    elif mail.user and not SECRET_PLACE.fullmatch(mail.password):
        yield Mistake(f"{path}.password", "is no place of a secret", "env:NAME or file:PATH, never the secret itself")
    elif mail.user and mail.security == "none":
        yield Mistake(f"{path}.security", "a password would go in clear", "starttls or tls")


def template_mistakes(value: Any, path: str) -> Iterator[Mistake]:
    """Placeholders that there are not, in a template or any part of it; and what JSON has not."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from template_mistakes(part, f"{path}.{name}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from template_mistakes(part, f"{path}[{number}]")
    elif isinstance(value, str):
        for name in set(PLACEHOLDER.findall(value)) - set(PLACEHOLDERS):
            yield Mistake(path, f"there is no placeholder {{{name}}}", nearest(name, PLACEHOLDERS, f"there are {', '.join(PLACEHOLDERS)}"))
    elif not isinstance(value, bool | int):
        yield Mistake(path, f"{value!r} is no text, integer, true or false", "write it as a text")


def address_mistakes(url: str, path: str) -> Iterator[Mistake]:
    """What is wrong with an address."""
    found = ADDRESS.fullmatch(url)
    if found is None:
        yield Mistake(path, f"{url[:80]!r} is no address", "https://host/path")
    elif "@" in found["place"]:
        yield Mistake(path, "has a password in it", "whoever sees the address would know it: the signature says who we are")
