"""Whoever finds a key reports it: it ends at once, its owners hear of it, and the reporter learns nothing."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest
from django.core.mail import EmailMessage
from django.test import Client

from alerts.models import Alert
from noburn.kit import ids
from noburn.kit.clock import utc_now
from tenants.domain import api_keys
from tenants.models import ApiKey, AuditEntry
from tenants.services.keys import IssuedKey, issue_key
from tests.tenants.cast import Cast, api_of

pytestmark = pytest.mark.real_db

_addresses = count(1)


def report(body: object, **meta: str) -> Any:
    """A report by somebody who never reported before, unless `meta` says who."""
    meta.setdefault("REMOTE_ADDR", f"10.77.{next(_addresses) // 250}.{next(_addresses) % 250}")
    return Client().post("/v1/leaked-keys", json.dumps(body), content_type="application/json", **meta)  # type: ignore[arg-type]


def issue(cast: Cast) -> IssuedKey:
    return issue_key(tenant_id=cast.tenant.pk, name="leaky", scopes=["read"], actor="test", now=utc_now())


def unknown() -> str:
    head = "nb_live_" + "q" * 32
    return head + api_keys._checksum(head)


class TestReport:
    def test_ends_the_key_and_tells_the_owners(self, cast: Cast, mailoutbox: list[EmailMessage]) -> None:
        issued = issue(cast)
        where = "https://paste.example/x\n\nBcc: eve@example.com"
        answer = report({"api_key": issued.secret, "where": where})
        assert (answer.status_code, answer.json()) == (202, {"status": "received"})
        row = ApiKey.objects.get(pk=issued.key.pk)
        assert row.revoked_at is not None
        wire = ids.encode(ids.API_KEY, row.pk)
        entry = AuditEntry.objects.get(tenant=cast.tenant, action="api_key.revoke")
        assert (entry.actor, entry.object) == ("system:leak-report", wire)
        alert = Alert.objects.get(tenant=cast.tenant, kind="api_key_leaked")
        assert alert.subject == wire
        (mail,) = mailoutbox
        assert mail.to == [cast.alice.user.email]
        assert "paste.example/x Bcc: eve" in str(mail.body)
        for told in (str(mail.body), mail.subject, json.dumps(alert.details), json.dumps(entry.after)):
            assert issued.secret not in told

    def test_answers_the_same_whatever_was_reported(self, cast: Cast, mailoutbox: list[EmailMessage]) -> None:
        secret = issue(cast).secret
        texts = (secret, secret, unknown(), secret[:-1], secret[:20], "x")
        answers = [report({"api_key": text}) for text in texts]
        assert {(each.status_code, each.content) for each in answers} == {(202, b'{"status":"received"}')}
        # Once: who reports it again tells nobody anything.
        assert len(mailoutbox) == 1

    def test_of_a_part_of_a_key_ends_none(self, cast: Cast) -> None:
        issued = issue(cast)
        for part in (issued.secret[:-1], issued.secret[1:], issued.secret[:20], issued.key.prefix):
            report({"api_key": part})
        assert ApiKey.objects.get(pk=issued.key.pk).revoked_at is None

    @pytest.mark.parametrize(
        "body", [{}, {"api_key": ""}, {"api_key": "x" * 201}, {"api_key": "x", "y": 1}, []]
    )
    def test_that_is_none_says_so(self, body: object) -> None:
        assert report(body).status_code == 400

    def test_comes_a_few_times_a_minute_from_one_address(self) -> None:
        answers = [report({"api_key": unknown()}, REMOTE_ADDR="10.78.1.1") for _ in range(40)]
        statuses = [answer.status_code for answer in answers]
        assert statuses[:30] == [202] * 30
        refused = answers[statuses.index(429)]
        assert refused.json()["type"].endswith("/too-many-requests")
        assert int(refused["Retry-After"]) >= 1
        assert report({"api_key": unknown()}, REMOTE_ADDR="10.78.1.2").status_code == 202


class TestManagementRates:
    def test_are_told_and_kept_to(self, cast: Cast, settings: Any) -> None:
        settings.NOBURN_KEY_REQUESTS_PER_SECOND = 1
        api = api_of(cast.tenant, "read")
        first = api.get("/v1/tenant")
        assert (first.headers["ratelimit-limit"], first.headers["ratelimit-remaining"]) == ("20", "19")
        answers = [api.get("/v1/tenant") for _ in range(60)]
        refused = next(answer for answer in answers if answer.status == 429)
        assert refused.kind == "too-many-requests"
        assert refused.headers["ratelimit-remaining"] == "0"
        assert int(refused.headers["retry-after"]) >= 1
        assert api_of(cast.charlie.tenant, "read").get("/v1/tenant").status == 200

    def test_slow_down_who_guesses_keys(self, cast: Cast, settings: Any) -> None:
        settings.NOBURN_WRONG_KEYS_PER_MINUTE = 3
        asked = [
            Client(REMOTE_ADDR="10.79.1.1").get(
                "/v1/tenant", headers={"Authorization": f"Bearer {unknown()}"}
            )
            for _ in range(5)
        ]
        assert [answer.status_code for answer in asked] == [401, 401, 401, 429, 429]
        # Whoever has a key passes, whatever else comes from the address.
        known = Client(REMOTE_ADDR="10.79.1.1").get(
            "/v1/tenant", headers={"Authorization": f"Bearer {issue(cast).secret}"}
        )
        assert known.status_code == 200
        other = Client(REMOTE_ADDR="10.79.1.2").get(
            "/v1/tenant", headers={"Authorization": f"Bearer {unknown()}"}
        )
        assert other.status_code == 401
