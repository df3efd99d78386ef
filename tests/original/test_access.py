"""Every path of the original client: none answers without a key of ours, its scope and a project of its tenant.

The API document and the tables of roles leave these paths out: they are the client's own form, and no part of /v1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from tests.support.asgi import Answer, send

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db

SERVED = {
    ("POST", "/api/v1/check"),
    ("POST", "/api/v1/events"),
    ("GET", "/api/v1/pricing"),
    ("GET", "/api/v1/policy"),
    ("GET", "/api/v1/quota"),
    ("POST", "/api/v1/runs"),
}
CLOSING = {("POST", "/api/v1/runs/r1/end"), ("POST", "/api/v1/runs/r1/stop")}
BODY: dict[str, Any] = {
    "model": "own-tool",
    "estimated_cost_usd": 0.1,
    "cost_usd": 0.1,
    "end_user_id": "u1",
    "amount_usd": 1,
}
EVERY = sorted(SERVED | CLOSING)


def ask(alice: Account, method: str, path: str, *, secret: str, project: str) -> Answer:
    """One request with whatever it needs."""
    if method == "GET":
        path = f"{path}?project_id={project}&end_user_id=u1"
    body = {**BODY, "project_id": project} if method == "POST" else None
    answer: Answer = alice.world.run(
        send(alice.world.app, method, path, body=body, secret=secret, idempotency_key=None)
    )
    return answer


class TestEveryPath:
    def test_is_known_here(self, alice: Account) -> None:
        original = alice.world.app._original
        assert set(original.routes) == SERVED
        assert all(alice.world.app.handles(path, method) for method, path in EVERY)
        # Django's, and what is nobody's.
        for path in ("/api/v1/revenue", "/api/v1/", "/api/v1/runs//end", "/api/v1/runs/r1"):
            assert not alice.world.app.handles(path, "POST")

    @pytest.mark.parametrize(("method", "path"), EVERY)
    def test_needs_a_key(self, alice: Account, method: str, path: str) -> None:
        for secret in ("", "sk-nb-1", "nb_live_" + "x" * 38):
            answer = ask(alice, method, path, secret=secret, project="default")
            assert (answer.status, answer.kind) == (401, "unauthorized")

    @pytest.mark.parametrize(("method", "path"), EVERY)
    def test_needs_a_scope(self, alice: Account, method: str, path: str) -> None:
        secret = alice.key(["settle"]).secret
        answer = ask(alice, method, path, secret=secret, project="default")
        assert (answer.status, answer.kind) == (403, "forbidden-scope")

    @pytest.mark.parametrize(("method", "path"), EVERY)
    def test_needs_a_project_of_its_tenant(self, alice: Account, method: str, path: str) -> None:
        from noburn.kit import ids
        from tenants.models import Project

        charlie = alice.world.account("charlie")
        (foreign,) = Project.objects.filter(tenant_id=charlie.tenant_id)
        for project in ("nowhere", ids.encode(ids.PROJECT, foreign.pk)):
            answer = ask(alice, method, path, secret=alice.secret, project=project)
            assert (answer.status, answer.kind) == (403, "forbidden-scope"), answer
        assert alice.ledger() == charlie.ledger() == []


class TestRevenue:
    def report(self, secret: str, **fields: Any) -> tuple[int, Any]:
        body = {
            "project_id": "default",
            "end_user_id": "u1",
            "amount_usd": 49.0,
            "occurred_at": "2026-10-01T09:30:00Z",
            "external_id": None,
            "source": "sdk",
            **fields,
        }
        answer = Client().post(
            "/api/v1/revenue",
            body,
            content_type="application/json",
            headers={"Authorization": f"Bearer {secret}"},
        )
        return answer.status_code, answer.json()

    def kept(self, account: Account) -> list[tuple[str, int, str]]:
        from billing.models import ReportedPayment

        rows = ReportedPayment.objects.filter(tenant_id=account.tenant_id).order_by("created_at", "pk")
        return list(rows.values_list("customer", "amount_nano", "external_id"))

    def test_is_kept_once(self, alice: Account) -> None:
        for status in ("recorded", "duplicate"):
            assert self.report(alice.secret, external_id="in_1") == (202, {"status": status})
        # Known by its id, whatever it says the second time.
        assert self.report(alice.secret, external_id="in_1", amount_usd=50)[1] == {"status": "duplicate"}
        assert self.kept(alice) == [("u1", 49 * 10**9, "in_1")]

    def test_without_an_id_is_known_by_what_it_says(self, alice: Account) -> None:
        for fields in (
            {},
            {},
            {"amount_usd": -10.5},
            {"occurred_at": "2026-10-01T09:30:01Z"},
            {"end_user_id": " u1"},
        ):
            assert self.report(alice.secret, **fields)[0] == 202
        assert [(who, amount) for who, amount, _ in self.kept(alice)] == [
            ("u1", 49 * 10**9),
            ("u1", -10_500_000_000),
            ("u1", 49 * 10**9),
            (" u1", 49 * 10**9),
        ]

    def test_of_another_tenant_is_another(self, alice: Account) -> None:
        charlie = alice.world.account("charlie")
        for account in (alice, charlie):
            assert self.report(account.secret, external_id="in_1")[1] == {"status": "recorded"}

    def test_names_every_bad_field(self, alice: Account) -> None:
        status, body = self.report(
            alice.secret,
            end_user_id="",
            amount_usd=10**8,
            occurred_at="soon",
            external_id=[],
            source="x" * 201,
        )
        assert status == 400
        assert {error["field"] for error in body["errors"]} == {
            "end_user_id", "amount_usd", "occurred_at", "external_id", "source",
        }  # fmt: skip
        assert self.report(alice.secret, amount_usd=None)[1]["errors"][0]["field"] == "amount_usd"
        assert self.report(alice.secret, occurred_at="1999-01-01T00:00:00Z")[0] == 400
        assert self.kept(alice) == []

    def test_needs_a_key_its_scope_and_a_project(self, alice: Account) -> None:
        assert self.report("")[0] == self.report("sk-nb-1")[0] == 401
        assert self.report(alice.key(["preflight", "read"]).secret)[0] == 403
        assert self.report(alice.secret, project_id="nowhere")[0] == 403
        assert Client().get("/api/v1/revenue").status_code == 405
        assert self.kept(alice) == []

    def test_cannot_be_changed_by_the_application(self, alice: Account) -> None:
        from django.db import ProgrammingError, transaction

        from billing.models import ReportedPayment

        self.report(alice.secret)
        rows = ReportedPayment.objects.filter(tenant_id=alice.tenant_id)
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            rows.update(amount_nano=0)
