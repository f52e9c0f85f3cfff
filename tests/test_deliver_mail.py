"""E-mails to a real SMTP server: who gets what, over TLS and with a password, and what a refusal means."""

import asyncio
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.triggers import triggered
from tillstream.config import Config
from tillstream.embedded.process import free_port
from tillstream.endpoints import load_targets
from tillstream.errors import EndpointsError
from tillstream.sinks.delivery.webhook import Attempt, Poster

# aiosmtpd looks for a password on every connection; the setting that it warns of is the one tested.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")


class Mailbox:
    """What came; `answers` to recipients by their address."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.answers: dict[str, str] = {}

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:  # noqa: N802
        envelope.rcpt_tos.append(address)
        return self.answers.get(address, "250 OK")

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.messages.append(cast(EmailMessage, message_from_bytes(cast(bytes, envelope.content), policy=policy.default)))
        return "250 OK"


def knows(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    known = isinstance(data, LoginPassword) and (data.login, data.password) == (b"club", b"s3cret")
    return AuthResult(success=known, handled=False)


@contextmanager
def serving(box: Mailbox, **how: Any) -> Iterator[int]:
    port = free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port, **how)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


def sent(folder: Path, port: int, event: dict[str, Any], **keys: Any) -> Attempt:
    """One attempt to send a trigger."""
    book, path = folder / "addresses.csv", folder / "endpoints.toml"
    if not book.exists():
        book.write_text("member_id,email\nm1,somebody@example.org\n")
    whole = {
        "kind": "mail", "id": "mail", "server": "127.0.0.1", "port": port, "security": "none", "sender": "Club <club@example.org>",
        "subject": "{title} for you", "text": "{points} {unit} until {expires_at}", "addresses": str(book), **keys,
    }  # fmt: skip
    path.write_text("[[endpoints]]\n" + "\n".join(f"{name} = {json.dumps(value)}" for name, value in whole.items()))
    (target,) = load_targets(Config(endpoints=str(path)))
    return asyncio.run(target.sender.send(Poster(False), event["data"]["decision_id"], json.dumps(event).encode(), 1_772_901_730))


def test_member_in_the_file_gets_the_mail_and_others_none(tmp_path: Path) -> None:
    box = Mailbox()
    with serving(box) as port:
        assert sent(tmp_path, port, triggered("m-1", title="Käse\r\nBcc: x@example.org")).result == "delivered"
        assert sent(tmp_path, port, triggered("m-2", member_id="m2")) == Attempt("refused", "the file of addresses has no such member")
        (tmp_path / "addresses.csv").write_text("member_id,email\nm1,somebody@example.org\nm2,other@example.org\n")
        assert sent(tmp_path, port, triggered("m-2", member_id="m2")).result == "delivered"
        (tmp_path / "addresses.csv").write_text("who\nm1\n")
        assert "no columns member_id and email" in sent(tmp_path, port, triggered("m-3")).reason
    first, second = box.messages
    assert (first["To"], first["From"], first["Bcc"]) == ("somebody@example.org", "Club <club@example.org>", None)
    assert first["Subject"] == "Käse Bcc: x@example.org for you"
    assert first["Message-ID"] == "<m-1.mail@example.org>"
    assert first.get_content().startswith("50 points until 20")
    assert second["To"] == "other@example.org"


def test_refusal_for_good_is_not_tried_again_and_any_other_is(tmp_path: Path) -> None:
    box = Mailbox()
    with serving(box) as port:
        for answer, result in (("550 unknown", "refused"), ("451 later", "failed")):
            box.answers["somebody@example.org"] = answer
            assert sent(tmp_path, port, triggered("m-1")) == Attempt(result, f"SMTP {answer[:3]} to the recipient")  # type: ignore[arg-type]
    assert sent(tmp_path, port, triggered("m-1")).result == "failed"
    assert box.messages == []


def test_password_goes_over_tls_to_a_server_that_is_who_it_says(tmp_path: Path) -> None:
    authority, box = trustme.CA(), Mailbox()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "password").write_text("s3cret\n")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    secure = {"security": "starttls", "user": "club", "password": f"file:{tmp_path}/password"}
    with serving(box, tls_context=context, authenticator=knows, auth_required=True, auth_require_tls=True) as port:
        assert sent(tmp_path, port, triggered("m-1"), **secure, ca=str(tmp_path / "ca.pem")).result == "delivered"
        assert "CERTIFICATE_VERIFY_FAILED" in sent(tmp_path, port, triggered("m-2"), **secure).reason
        (tmp_path / "password").write_text("wrong")
        assert sent(tmp_path, port, triggered("m-3"), **secure, ca=str(tmp_path / "ca.pem")) == Attempt("failed", "SMTP 535")
    assert [message["Message-ID"] for message in box.messages] == ["<m-1.mail@example.org>"]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"user": "club"}, "$.endpoints[0].password: user and password go together"),
        ({"user": "club", "password": "s3cret", "security": "tls"}, "$.endpoints[0].password: is no place of a secret"),
        ({"user": "club", "password": "env:HOME"}, "$.endpoints[0].security: a password would go in clear"),
        ({"text": "{titel}"}, "$.endpoints[0].text: there is no placeholder {titel} (did you mean 'title'?)"),
        ({"sender": "a@b\r\nBcc: x"}, "$.endpoints[0].sender"),
    ],
)
def test_mistake_is_told_with_its_path(tmp_path: Path, keys: dict[str, Any], told: str) -> None:
    with pytest.raises(EndpointsError) as refused:
        sent(tmp_path, 25, triggered("m-1"), **keys)
    assert told in str(refused.value)
