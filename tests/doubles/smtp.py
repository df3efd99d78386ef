"""A mail server: real SMTP in a thread, that keeps what it was given."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage, Message
from types import TracebackType
from typing import Any

from aiosmtpd.controller import Controller

from tests.doubles.provider.process import free_port


class MailServer:
    """Accepts mail for everybody except `refused`; `messages` holds what it accepted."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.recipients: list[str] = []
        self.refused: set[str] = set()
        self.port = free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        """SMTP's RCPT TO."""
        if address in self.refused:
            return "550 5.1.1 nobody here of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """SMTP's DATA."""
        self.messages.append(message_from_bytes(envelope.content, EmailMessage, policy=policy.default))
        self.recipients += envelope.rcpt_tos
        return "250 OK"

    def __enter__(self) -> MailServer:
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._controller.stop()
