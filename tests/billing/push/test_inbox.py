"""Webhooks: whose, verified, stored once, handled in any order."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from billing.models import StripeEvent
from billing.services import stripe_inbox
from noburn.kit import ids
from tests.billing.push.till import DAY, HOUR, NEXT, START

if TYPE_CHECKING:
    from tests.billing.push.till import Till

pytestmark = pytest.mark.real_db

NOON = START + 12 * HOUR


def event(kind: str = "invoice.paid", **fields: Any) -> bytes:
    told = {
        "id": "evt_1",
        "object": "event",
        "type": kind,
        "created": 1_790_000_000,
        "livemode": False,
        "data": {"object": {"id": "in_1", "customer": "cus_unknown"}},
        **fields,
    }
    return json.dumps(told).encode()


def signed(body: bytes, secret: str, at: datetime | None = None) -> str:
    when = int((at or datetime.now(UTC)).timestamp())
    made = hmac.new(secret.encode(), f"{when}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={when},v1={made}"


def post(till: Till, body: bytes, signature: str, endpoint: str | None = None) -> Any:
    name = endpoint or ids.encode(ids.STRIPE_ACCOUNT, till.account().pk)
    return Client().post(
        f"/stripe/webhooks/{name}",
        body,
        content_type="application/json",
        headers={"Stripe-Signature": signature},
    )


def stored(till: Till) -> list[StripeEvent]:
    return list(StripeEvent.objects.filter(tenant_id=till.tenant_id).order_by("pk"))


class TestEndpoint:
    @pytest.mark.parametrize("secret", [0, 1])
    def test_takes_an_event_that_either_secret_signed_once(self, till: Till, secret: int) -> None:
        body = event()
        for _ in range(2):
            assert post(till, body, signed(body, till.secrets[secret])).status_code == 204
        assert [row.event_id for row in stored(till)] == ["evt_1"]

    def test_refuses_what_nobody_signed_or_long_ago(self, till: Till) -> None:
        body = event()
        wrong = [
            signed(body, "whsec_wrongwrong"),
            signed(body + b" ", till.secrets[0]),
            signed(body, till.secrets[0], datetime.now(UTC) - timedelta(minutes=6)),
            signed(body, till.secrets[0], datetime.now(UTC) + timedelta(minutes=6)),
            "",
            "t=1",
            "v1=abc",
            "t=99999999999999999999,v1=abc",
        ]
        for signature in wrong:
            answer = post(till, body, signature)
            assert answer.status_code == 400, signature
            assert answer.json()["type"].endswith("/invalid-signature")
        assert stored(till) == []

    def test_is_nobody_else_s(self, till: Till, settings: Settings) -> None:
        body = event()
        right = signed(body, till.secrets[0])
        for endpoint in ("sta_01jd2c8vq6f5k9s0m3w7x4y1z2", "nothing", "platform"):
            assert post(till, body, right, endpoint).status_code == 404
        settings.STRIPE_PLATFORM_WEBHOOK_SECRET = "whsec_platform1"
        assert post(till, body, right, "platform").status_code == 400
        assert Client().get("/stripe/webhooks/platform").status_code == 405

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"[]",
            b"{",
            b'{"object": "event"}',
            b'{"object": "event", "id": "evt_1", "type": "a", "created": "soon"}',
            b'{"object": "event", "id": "evt_1", "type": "a", "created": 1e300}',
            b'{"object": "event", "id": "evt\\u0000", "type": "a", "created": 1}',
            b'{"object": "event", "id": "evt_1", "type": "a", "created": 1, "x": "\\u0000"}',
            b"[" * 100_000,
        ],
    )
    def test_refuses_what_is_no_event(self, till: Till, body: bytes) -> None:
        answer = post(till, body, signed(body, till.secrets[0]))
        assert answer.status_code == 400
        assert answer.json()["type"].endswith("/invalid-request")

    def test_bounds_what_it_reads(self, till: Till) -> None:
        body = b" " * (stripe_inbox.BODY_BYTES_MAX + 1)
        assert post(till, body, signed(body, till.secrets[0])).status_code == 413

    def test_keeps_nothing_of_what_nobody_handles(self, till: Till) -> None:
        body = event("payment_method.attached", id="evt_2")
        assert post(till, body, signed(body, till.secrets[0])).status_code == 204
        (row,) = stored(till)
        assert (row.state, row.payload) == ("ignored", {})


class TestHandling:
    def test_gives_an_event_up_only_after_many_tries(
        self, till: Till, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        body = event()
        post(till, body, signed(body, till.secrets[0]))
        tried = []

        def broken(happened: Any) -> None:
            tried.append(happened.event_id)
            raise RuntimeError("not today")

        monkeypatch.setattr(stripe_inbox, "handlers_of", lambda *_args, **_more: [broken])
        now = datetime.now(UTC)
        for _ in range(stripe_inbox.TRIES_MAX + 5):
            stripe_inbox.handle_batch(now=now)
            now += HOUR
        (row,) = stored(till)
        assert (row.state, row.error) == ("failed", "RuntimeError: not today")
        assert len(tried) == stripe_inbox.TRIES_MAX

    def test_comes_to_the_same_in_any_order_and_twice(self, till: Till) -> None:
        till.link()
        till.use(900_000, NOON)
        till.live(NOON + 2 * HOUR, events=False)
        till.to(NEXT)
        till.live(NEXT + 3 * HOUR, events=False)
        till.events(order="reversed", duplicates=2)
        first = till.periods()[0]
        assert first.invoiced_micro == 900_000
        assert till.link_of().period_starts_at == NEXT
        events = stored(till)
        assert len({row.event_id for row in events}) == len(events)
        assert {row.state for row in events} <= {"handled", "ignored"}

    def test_forgets_after_a_month(self, till: Till) -> None:
        body = event("payment_method.attached")
        post(till, body, signed(body, till.secrets[0]))
        assert stripe_inbox.prune(now=datetime.now(UTC) + 29 * DAY) == 0
        assert stripe_inbox.prune(now=datetime.now(UTC) + 31 * DAY) >= 1
        assert stored(till) == []
