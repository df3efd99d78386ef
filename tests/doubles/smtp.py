"""A mail server: real SMTP in a thread, that keeps what it was given."""

from __future__ import annotations

import threading
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import TracebackType
from typing import Any

from aiosmtpd.controller import Controller

from tests.doubles.program import free_port

WAIT_SECONDS = 30.0


class MailServer:
    """Accepts mail for everybody except `refused`; `messages` holds what it accepted."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.refused: set[str] = set()
        self._arrived = threading.Condition()
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
        with self._arrived:
            self.messages.append(message_from_bytes(envelope.content, EmailMessage, policy=policy.default))
            self.recipients += envelope.rcpt_tos
            self._arrived.notify_all()
        return "250 OK"

    def wait_for(self, count: int) -> None:
        """Returns when so many messages have arrived. Raises AssertionError when they do not."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.messages) >= count, WAIT_SECONDS), self.messages

    def __enter__(self) -> MailServer:
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._controller.stop()
