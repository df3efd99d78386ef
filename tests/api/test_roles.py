"""Who may do what: every role and every kind of key against every route, by a table that says so itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from noburn.kit import ids
from noburn.kit.clock import utc_now
from tests.api.routes import PLAIN, Route, gateway_operations, management_routes
from tests.api.test_isolation import filled, first_word

if TYPE_CHECKING:
    from tests.support.api import Api
    from tests.support.asgi import Answer
    from tests.support.world import Account, World

pytestmark = pytest.mark.real_db

EVERYBODY = frozenset({"owner", "admin", "billing", "viewer"})
DECIDERS = frozenset({"owner", "admin"})
MONEY = DECIDERS | {"billing"}
NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Rights:
    """The roles that may read and change, and whether a key of one project may read."""

    read: frozenset[str]
    change: frozenset[str]
    of_one_project: bool = False


RIGHTS = {
    "tenant": Rights(EVERYBODY, DECIDERS),
    "projects": Rights(EVERYBODY, DECIDERS),
    "customers": Rights(EVERYBODY, DECIDERS),
    "budgets": Rights(EVERYBODY, DECIDERS),
    "estimates": Rights(EVERYBODY, NOBODY),
    "api-keys": Rights(EVERYBODY, DECIDERS),
    "members": Rights(EVERYBODY, DECIDERS),
    "usage": Rights(EVERYBODY, NOBODY, of_one_project=True),
    "compare": Rights(EVERYBODY, NOBODY, of_one_project=True),
    "ledger": Rights(EVERYBODY, NOBODY, of_one_project=True),
    "decisions": Rights(EVERYBODY, NOBODY, of_one_project=True),
    "policies": Rights(EVERYBODY, DECIDERS),
    "price-overrides": Rights(EVERYBODY, MONEY),
    "reratings": Rights(EVERYBODY, DECIDERS),
    "runs": Rights(EVERYBODY, NOBODY),
    "guards": Rights(EVERYBODY, DECIDERS),
    "rate-cards": Rights(EVERYBODY, MONEY),
    "rate-card-assignments": Rights(EVERYBODY, MONEY),
    "presumed-approvals": Rights(EVERYBODY, MONEY),
    "revenue": Rights(EVERYBODY, NOBODY),
    "alerts": Rights(EVERYBODY, DECIDERS),
    "alert-emails": Rights(EVERYBODY, DECIDERS),
    "webhook-endpoints": Rights(EVERYBODY, DECIDERS),
    "deliveries": Rights(EVERYBODY, DECIDERS),
    "account": Rights(EVERYBODY, MONEY),
    "stripe": Rights(EVERYBODY, MONEY),
    "stripe-links": Rights(EVERYBODY, MONEY),
    "measurements": Rights(EVERYBODY, MONEY),
    "invoices": Rights(EVERYBODY, MONEY),
    "billing": Rights(EVERYBODY, NOBODY),
    "wallets": Rights(EVERYBODY, MONEY),
    "audit": Rights(MONEY, NOBODY),
}
"""By a path's first word; a route under another one fails."""

SCOPES = ("preflight", "settle", "read", "manage")

GATEWAY: dict[tuple[str, str], frozenset[str]] = {
    ("POST", "/v1/preflight"): frozenset({"preflight"}),
    ("POST", "/v1/holds/{id}/extend"): frozenset({"preflight"}),
    ("POST", "/v1/leases"): frozenset({"preflight"}),
    ("POST", "/v1/leases/{id}/report"): frozenset(SCOPES),
    ("POST", "/v1/leases/{id}/close"): frozenset(SCOPES),
    ("POST", "/v1/runs"): frozenset({"preflight"}),
    ("POST", "/v1/runs/{id}/stop"): frozenset({"preflight", "manage"}),
    ("POST", "/v1/runs/{id}/end"): frozenset({"preflight", "manage"}),
    ("GET", "/v1/remaining"): frozenset({"read"}),
    ("GET", "/v1/prices"): frozenset({"read"}),
    # Money that was spent is recorded, whatever the key may do.
    ("POST", "/v1/settle"): frozenset(SCOPES),
    ("POST", "/v1/settle/batch"): frozenset(SCOPES),
    ("POST", "/v1/void"): frozenset(SCOPES),
    ("GET", "/healthz"): frozenset(SCOPES),
    ("GET", "/readyz"): frozenset(SCOPES),
}
"""The scopes of which a key of the gateway's routes needs one."""


@dataclass(frozen=True)
class People:
    """Callers of one tenant: members by role, and keys by what they may do."""

    members: dict[str, Api]
    keys: dict[str, Api]
    of_one_project: Api
    stranger: Api
    nobody: Api


@pytest.fixture(scope="module")
def people(real_database: None) -> People:
    from tenants.models import Member, User
    from tenants.services.keys import issue_key
    from tests.support.api import Api
    from tests.tenants.cast import api_of, make_cast, unique

    cast, now = make_cast(), utc_now()
    members = {}
    for role in sorted(EVERYBODY):
        user = User.objects.create_user(f"{unique(role)}@example.com", id=ids.new_uuid(now))
        Member.objects.create(tenant=cast.tenant, user=user, role=role)
        members[role] = Api(user=user)
    bound = issue_key(
        tenant_id=cast.tenant.pk,
        project_id=cast.project.pk,
        name="bound",
        scopes=list(SCOPES),
        actor="test",
        now=now,
    )
    stranger = User.objects.create_user(f"{unique('stranger')}@example.com", id=ids.new_uuid(now))
    return People(
        members=members,
        keys={scope: api_of(cast.tenant, scope) for scope in SCOPES},
        of_one_project=Api(secret=bound.secret),
        stranger=Api(user=stranger),
        nobody=Api(),
    )


def asked(api: Api, route: Route) -> Answer:
    """A request that gets past the door and no further: its ids are nobody's, and its body is empty."""
    nobodys: dict[str, str] = {
        prefix: ids.encode(prefix, ids.new_uuid(utc_now())) for prefix in sorted(ids.PREFIXES)
    }
    body: Any = None if route.method == "GET" else {}
    return api.send(route.method, filled(route, nobodys), body)


def let_in(answer: Answer) -> bool:
    """Whether the caller was let in, whatever became of the request."""
    assert answer.status < 500, answer
    return answer.status not in (401, 403)


def routes() -> list[Route]:
    return [route for route in management_routes() if route.path not in PLAIN]


def allowed(route: Route) -> frozenset[str]:
    rights = RIGHTS[first_word(route)]
    return rights.read if route.method == "GET" else rights.change


class TestMembers:
    @pytest.mark.parametrize("role", sorted(EVERYBODY))
    def test_may_do_what_their_role_may(self, people: People, role: str) -> None:
        wrong = []
        for route in routes():
            answer = asked(people.members[role], route)
            if let_in(answer) != (role in allowed(route)):
                wrong.append((route.operation, answer.status))
            if not let_in(answer):
                assert answer.kind == "forbidden-role", (route.operation, answer)
        assert wrong == []

    def test_of_no_tenant_may_do_nothing(self, people: People) -> None:
        assert [r.operation for r in routes() if asked(people.stranger, r).status != 401] == []


class TestKeys:
    @pytest.mark.parametrize("scope", SCOPES)
    def test_may_do_what_their_scope_may(self, people: People, scope: str) -> None:
        wrong = []
        for route in routes():
            answer = asked(people.keys[scope], route)
            if route.method == "GET":
                may = scope in ("read", "manage")
            else:
                may = scope == "manage" and bool(RIGHTS[first_word(route)].change)
            if let_in(answer) != may:
                wrong.append((route.operation, answer.status))
            if not let_in(answer):
                assert answer.kind == "forbidden-scope", (route.operation, answer)
        assert wrong == []

    def test_of_one_project_may_see_its_own_use_and_nothing_else(self, people: People) -> None:
        wrong = [
            route.operation
            for route in routes()
            if let_in(asked(people.of_one_project, route))
            != (route.method == "GET" and RIGHTS[first_word(route)].of_one_project)
        ]
        assert wrong == []


class TestNobody:
    def test_may_do_nothing(self, people: People) -> None:
        for route in routes():
            answer = asked(people.nobody, route)
            assert (answer.status, answer.kind) == (401, "unauthorized"), route.operation
            assert answer.headers["www-authenticate"].startswith("Bearer")


class TestGateway:
    def test_has_no_route_that_the_table_forgot(self) -> None:
        assert set(GATEWAY) == gateway_operations()

    @pytest.mark.parametrize("scope", SCOPES)
    def test_lets_in_keys_by_their_scope(self, world: World, alice: Account, scope: str) -> None:
        secret = alice.key([scope]).secret
        wrong = []
        for (method, path), scopes in GATEWAY.items():
            answer = world.request(method, path.replace("{id}", "hold_1"), body={}, secret=secret)
            assert answer.status < 500, (path, answer)
            if let_in(answer) != (scope in scopes):
                wrong.append((path, answer.status))
            if not let_in(answer):
                assert answer.kind == "forbidden-scope"
        assert wrong == []

    def test_lets_nobody_in_without_a_key(self, world: World, alice: Account) -> None:
        for method, path in GATEWAY:
            answer = world.request(method, path.replace("{id}", "hold_1"), body={})
            assert (answer.status == 401) == path.startswith("/v1/"), (path, answer)
