"""Puts an alert into the form of its destination and sends it once. Touches no database: it may run in any thread."""

from __future__ import annotations

import json
import logging
import smtplib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from standardwebhooks.webhooks import Webhook

from alerts.domain.kinds import Text, kind_of
from alerts.models import DestinationKind
from noburn.kit import ids
from noburn.kit.outgoing import Answer, Failed, Outgoing, Refused

log = logging.getLogger(__name__)

ERROR_CHARACTERS_MAX = 200
EXCERPT_CHARACTERS_MAX = 500
GONE = 410


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """All that one attempt needs. `secrets` are the open secrets, the current one first; `target` URL or address."""

    delivery_id: UUID
    attempt: int
    alert_id: UUID
    tenant_id: UUID | None
    destination_kind: str
    target: str = field(repr=False)
    secrets: Sequence[str] = field(repr=False)
    alert_kind: str
    severity: str
    subject: str
    details: Mapping[str, Any]
    raised_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one attempt. `gone`: the endpoint asks not to be called again."""

    ok: bool
    ms: int
    status: int | None = None
    error: str = ""
    excerpt: str = ""
    gone: bool = False
    retry_after_seconds: int | None = None


def send(message: Message, *, now: datetime, outgoing: Outgoing | None = None) -> Outcome:
    """Sends once; never raises for what the other side does. `now` is signed as the attempt's time."""
    began = time.monotonic()
    try:
        if message.destination_kind == DestinationKind.EMAIL:
            _mail(message)
            return Outcome(ok=True, ms=_ms(began))
        answer = _post(message, now, outgoing or our_outgoing())
    except (Refused, Failed) as error:
        return Outcome(ok=False, ms=_ms(began), error=str(error)[:ERROR_CHARACTERS_MAX])
    except smtplib.SMTPResponseException as error:
        text = f"the mail server answered {error.smtp_code}"
        return Outcome(ok=False, ms=_ms(began), status=error.smtp_code, error=text)
    except smtplib.SMTPRecipientsRefused as error:
        code = next((code for code, _ in error.recipients.values()), None)
        return Outcome(ok=False, ms=_ms(began), status=code, error="the mail server refused the recipient")
    except (OSError, smtplib.SMTPException) as error:
        return Outcome(ok=False, ms=_ms(began), error=f"the mail server failed: {type(error).__name__}")
    except Exception as error:
        # One delivery that we cannot make must not keep the others from being made; what it was is in the log.
        log.exception("delivery %s could not be made", ids.encode(ids.DELIVERY, message.delivery_id))
        return Outcome(ok=False, ms=_ms(began), error=f"it could not be made: {type(error).__name__}")
    return _outcome(answer)


def our_outgoing() -> Outgoing:
    """The installation's rules for requests to strangers."""
    return Outgoing(allow_private=settings.NOBURN_ALLOW_PRIVATE_WEBHOOKS)


def _ms(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _outcome(answer: Answer) -> Outcome:
    if 200 <= answer.status < 300:
        return Outcome(ok=True, ms=answer.ms, status=answer.status)
    error = f"answered {answer.status}"
    if 300 <= answer.status < 400:
        error += "; redirects are not followed"
    asked = answer.headers.get("retry-after", "")
    return Outcome(
        ok=False,
        ms=answer.ms,
        status=answer.status,
        error=error,
        excerpt=_excerpt(answer.body),
        gone=answer.status == GONE,
        retry_after_seconds=int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 9 else None,
    )


def _excerpt(body: bytes) -> str:
    text = body[: 4 * EXCERPT_CHARACTERS_MAX].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in text)[:EXCERPT_CHARACTERS_MAX].strip()


def text_of(message: Message) -> Text:
    """What people read."""
    return kind_of(message.alert_kind).text(message.details)


def body_of(message: Message) -> dict[str, Any]:
    """The payload of a generic webhook: the same in every attempt."""
    text = text_of(message)
    return {
        "type": f"alert.{message.alert_kind}",
        "timestamp": _wire_time(message.raised_at),
        "data": {
            "id": ids.encode(ids.ALERT, message.alert_id),
            "tenant": ids.encode(ids.TENANT, message.tenant_id) if message.tenant_id else None,
            "kind": message.alert_kind,
            "severity": message.severity,
            "subject": message.subject,
            "title": text.title,
            "lines": list(text.lines),
            "details": dict(message.details),
        },
    }


def _wire_time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _post(message: Message, now: datetime, outgoing: Outgoing) -> Answer:
    headers = {"Content-Type": "application/json", "User-Agent": "noburn-alerts/1"}
    if message.destination_kind == DestinationKind.SLACK:
        body = json.dumps(slack_body(message), ensure_ascii=False)
        return outgoing.post(message.target, body=body.encode(), headers=headers)
    body = json.dumps(body_of(message), ensure_ascii=False, separators=(",", ":"))
    webhook_id = ids.encode(ids.DELIVERY, message.delivery_id)
    signatures = [Webhook(secret).sign(webhook_id, now, body) for secret in message.secrets]
    headers |= {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
    return outgoing.post(message.target, body=body.encode(), headers=headers)


def slack_body(message: Message) -> dict[str, Any]:
    """What Slack and its look-alikes read: `text` for notifications, blocks for the message."""
    text = text_of(message)
    title = f"{text.title} ({message.severity})"
    plain = "\n".join(text.lines)
    return {
        "text": _slack_escaped(f"{title}\n{plain}")[:3000],
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": title[:150]}},
            {"type": "section", "text": {"type": "mrkdwn", "text": (_slack_escaped(plain) or "-")[:3000]}},
            {
                "type": "context",
                "elements": [
                    {"type": "plain_text", "text": f"{ids.encode(ids.ALERT, message.alert_id)} · noburn"}
                ],
            },
        ],
    }


def _slack_escaped(text: str) -> str:
    """Without it a budget's name could mention a channel or show a link as another."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _mail(message: Message) -> None:
    text = text_of(message)
    host = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].strip("> ") or "localhost"
    # The same in every attempt, so that mail servers and people can tell a repetition.
    mail_id = f"<{ids.encode(ids.DELIVERY, message.delivery_id)}@{host}>"
    mail = EmailMessage(
        subject=f"[noburn] {text.title}",
        body="\n".join(
            [
                text.title,
                "",
                *text.lines,
                "",
                f"{message.severity} · {message.alert_kind} · "
                f"{ids.encode(ids.ALERT, message.alert_id)} · {_wire_time(message.raised_at)}",
            ]
        ),
        to=[message.target],
        headers={"Message-ID": mail_id, "Auto-Submitted": "auto-generated"},
        connection=get_connection(fail_silently=False),
    )
    mail.send()
