"""A trigger as an e-mail, by SMTP; the member's address stands in a file, since the engine knows addresses by their keyed hashes only.

    member_id,email
    m1,somebody@example.org

Delivery: at least once; `Message-ID` is made of the decision and the endpoint, the same at every attempt.
"""

import asyncio
import csv
import smtplib
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path

from tillstream.schemas.endpoints import Mail
from tillstream.schemas.offers import decode_trigger
from tillstream.sinks.delivery.template import filled, values_of
from tillstream.sinks.delivery.webhook import Attempt, Poster

MEMBER, EMAIL = "member_id", "email"


class AddressBook:
    """Addresses by member; the file is read again when it has changed."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.read_at: tuple[int, int] | None = None
        self.addresses: dict[str, str] = {}

    def address(self, member_id: str) -> str | None:
        """A member's address; None: the file has none.

        Raises:
            OSError, ValueError: the file can't be read.
        """
        found = self.path.stat()
        at = (found.st_mtime_ns, found.st_size)
        if at != self.read_at:
            with self.path.open(encoding="utf-8", newline="") as file:
                rows = csv.DictReader(file)
                if not {MEMBER, EMAIL} <= set(rows.fieldnames or ()):
                    raise ValueError(f"{self.path} has no columns {MEMBER} and {EMAIL}")
                self.addresses = {row[MEMBER]: row[EMAIL].strip() for row in rows if row[EMAIL]}
            self.read_at = at
        return self.addresses.get(member_id)


class MailSender:
    """Sends e-mails; `password` is empty where the server wants none."""

    def __init__(self, mail: Mail, password: str) -> None:
        self.mail = mail
        self.password = password
        self.book = AddressBook(mail.addresses)

    async def send(self, poster: Poster, decision_id: str, raw: bytes, now_s: int) -> Attempt:
        """One attempt; in a thread, since smtplib waits."""
        try:
            message = self.message(decision_id, raw, now_s)
        except (OSError, ValueError) as error:
            return Attempt("failed", f"addresses: {error}"[:200])
        if message is None:
            return Attempt("refused", "the file of addresses has no such member")
        try:
            await asyncio.to_thread(self._send, message)
        except smtplib.SMTPRecipientsRefused as error:
            code = max(status for status, _ in error.recipients.values())
            return Attempt("refused" if code >= 500 else "failed", f"SMTP {code} to the recipient")
        except smtplib.SMTPResponseException as error:
            return Attempt("failed", f"SMTP {error.smtp_code}")
        except (OSError, smtplib.SMTPException) as error:
            return Attempt("failed", f"{type(error).__name__}: {error}"[:200])
        return Attempt("delivered")

    def message(self, decision_id: str, raw: bytes, now_s: int) -> EmailMessage | None:
        """The e-mail, whose date is `now_s`; None: the member has no address."""
        trigger = decode_trigger(raw).data
        address = self.book.address(trigger.member_id)
        if address is None:
            return None
        values, message = values_of(trigger), EmailMessage()
        message["From"], message["To"] = self.mail.sender, address
        message["Subject"] = " ".join(str(filled(self.mail.subject, values)).split())
        message["Date"] = format_datetime(datetime.fromtimestamp(now_s, UTC))
        message["Message-ID"] = f"<{decision_id}.{self.mail.id}@{self.mail.sender.rpartition('@')[2].rstrip('> ')}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(str(filled(self.mail.text, values)))
        return message

    def _send(self, message: EmailMessage) -> None:
        mail, context = self.mail, ssl.create_default_context(cafile=self.mail.ca or None)
        if mail.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(mail.server, mail.port, timeout=mail.timeout_s, context=context)
        else:
            server = smtplib.SMTP(mail.server, mail.port, timeout=mail.timeout_s)
        with server:
            if mail.security == "starttls":
                server.starttls(context=context)
            if mail.user:
                server.login(mail.user, self.password)
            server.send_message(message)
