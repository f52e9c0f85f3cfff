"""The file that the setting `endpoints` names, with the secrets that it points to -> whom a worker delivers to."""

import os
from pathlib import Path

from tillstream.config import Config
from tillstream.errors import EndpointsError, UsageError
from tillstream.schemas.endpoints import InvalidEndpoints, parse_endpoints
from tillstream.schemas.mistakes import Mistake
from tillstream.sinks.delivery.target import Target
from tillstream.sinks.delivery.webhook import SecretInvalid, parse_secret


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
        places = [(f"$.endpoints[{number}].secrets[{place}]", secret) for place, secret in enumerate(endpoint.secrets)]
        targets.append(Target(endpoint, [key_at(secret, path, where) for where, secret in places]))
    return targets


def key_at(place: str, path: str, where: str) -> bytes:
    """The key whose secret is at `place`, `env:NAME` or `file:PATH`; `where` in the file `path` that stands.

    Raises:
        EndpointsError: there is none.
    """
    kind, _, name = place.partition(":")
    try:
        return parse_secret(os.environ[name] if kind == "env" else Path(name).read_text(encoding="utf-8"))
    except SecretInvalid as error:
        message = f"the secret at {place} {error}"
    except (KeyError, OSError, UnicodeDecodeError):
        message = f"there is no secret at {place}"
    raise EndpointsError(path, [Mistake(where, message, "whsec_ and 24 to 64 bytes in base64")])
