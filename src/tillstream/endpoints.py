"""The file that the setting `endpoints` names, with the secrets that it points to -> whom a worker delivers to."""

import os
from pathlib import Path

from tillstream.config import Config
from tillstream.errors import EndpointsError, UsageError
from tillstream.schemas.endpoints import SECRET_PLACE, AnyEndpoint, InvalidEndpoints, Mail, Template, parse_endpoints
from tillstream.schemas.mistakes import Mistake
from tillstream.sinks.delivery.mail import MailSender
from tillstream.sinks.delivery.target import Sender, Target
from tillstream.sinks.delivery.template import TemplateSender
from tillstream.sinks.delivery.webhook import SecretInvalid, WebhookSender, parse_secret


def load_targets(config: Config) -> list[Target]:
    """All endpoints, with their keys.

    Raises:
        UsageError: the setting is empty, or the file can't be read.
        EndpointsError: with the mistakes in it.
    """
    path = config.endpoints
    if not path:
        raise UsageError("endpoints: say where triggers are delivered to: a TOML file, as docs/delivery.md shows it")
    try:
        found = parse_endpoints(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"endpoints: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"endpoints: {path}: not UTF-8 text") from None
    except InvalidEndpoints as invalid:
        raise EndpointsError(path, invalid.mistakes) from None
    targets: list[Target] = []
    for number, endpoint in enumerate(found):
        targets.append(Target(endpoint, sender_of(endpoint, path, f"$.endpoints[{number}]")))
    return targets


def sender_of(endpoint: AnyEndpoint, path: str, where: str) -> Sender:
    """What sends to an endpoint, which stands at `where` in the file `path`.

    Raises:
        EndpointsError: a secret is not there, or is none.
    """
    if isinstance(endpoint, Template):
        headers = {
            name: secret_at(value, path, f"{where}.headers.{name}") if SECRET_PLACE.fullmatch(value) else value
            for name, value in endpoint.headers.items()
        }
        return TemplateSender(endpoint, headers)
    if isinstance(endpoint, Mail):
        return MailSender(endpoint, secret_at(endpoint.password, path, f"{where}.password") if endpoint.password else "")
    places = [(f"{where}.secrets[{number}]", place) for number, place in enumerate(endpoint.secrets)]
    return WebhookSender(endpoint, [key_at(place, path, at) for at, place in places])


def key_at(place: str, path: str, where: str) -> bytes:
    """The key whose secret is at `place`; `where` in the file `path` that stands; raises EndpointsError."""
    try:
        return parse_secret(secret_at(place, path, where))
    except SecretInvalid as error:
        raise EndpointsError(path, [Mistake(where, f"the secret at {place} {error}", "whsec_ and 24 to 64 bytes in base64")]) from None


def secret_at(place: str, path: str, where: str) -> str:
    """The text at `env:NAME` or `file:PATH`; raises EndpointsError where there is none."""
    kind, _, name = place.partition(":")
    try:
        return (os.environ[name] if kind == "env" else Path(name).read_text(encoding="utf-8")).strip()
    except (KeyError, OSError, UnicodeDecodeError):
        raise EndpointsError(path, [Mistake(where, f"there is no secret at {place}", "set the variable, or make the file")]) from None
