"""Alice's key with Charlie's ids: every route answers as if they were nobody's, shows nothing and changes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from noburn.kit import ids
from noburn.kit.clock import utc_now
from tests.api.routes import PLAIN, Route, management_routes
from tests.api.test_openapi import document
from tests.api.things import make_things

if TYPE_CHECKING:
    from tests.support.api import Api
    from tests.support.asgi import Answer
    from tests.support.world import Account, World

pytestmark = pytest.mark.real_db

OF_PATHS = {
    "projects": {"id": "prj"},
    "customers": {"id": "cus"},
    "api-keys": {"id": "key"},
    "members": {"id": "mem"},
    "budgets": {"id": "bud", "override": "ovr", "increase": "inc"},
    "policies": {"id": "pol"},
    "price-overrides": {"id": "pov"},
    "reratings": {"id": "rrt"},
    "runs": {"id": "run"},
    "guards": {"id": "grd"},
    "rate-cards": {"id": "rcd", "version": "rcv"},
    "rate-card-assignments": {"id": "rca"},
    "webhook-endpoints": {"id": "whe"},
    "alert-emails": {"id": "eml"},
    "alerts": {"id": "alr"},
    "deliveries": {"id": "dlv"},
    "audit": {"id": "aud"},
    "ledger": {"id": "hold"},
    "decisions": {"id": "dec"},
    "stripe-links": {"id": "lnk"},
    "measurements": {"id": "msr"},
    "invoices": {"id": "inv"},
    "wallets": {"id": "wal", "grant": "crg"},
}
"""What each variable of a path names, by the path's first word."""

FILTERS: dict[str, dict[str, str]] = {
    "/v1/audit": {"object": "bud"},
    "/v1/decisions": {"budget": "bud", "guard": "grd"},
    "/v1/deliveries": {"alert": "alr", "destination": "whe"},
    "/v1/ledger": {"hold": "hold"},
    "/v1/usage": {"api_key": "key"},
    "/v1/budgets": {"subject": "key"},
    "/v1/alerts": {"subject": "whe"},
    "/v1/rate-card-assignments": {"rate_card": "rcd"},
}
"""Filters that take an id, by path. Every other parameter takes words, numbers or times."""

WORDS = frozenset(
    {"action", "actor", "after", "archived", "bucket", "customer", "cursor", "decision", "email", "enabled"}
    | {
        "external_id",
        "fields",
        "format",
        "from",
        "group_by",
        "kind",
        "limit",
        "live",
        "metric",
        "model",
        "models",
        "name",
    }
    | {
        "period",
        "plan",
        "project",
        "mode",
        "parent",
        "provider",
        "reason",
        "role",
        "root",
        "run",
        "scope",
        "search",
        "severity",
        "slug",
        "sort",
    }
    | {"state", "subject", "suspended", "tag", "time_zone", "to", "token_factor", "user"}
    | {"window", "default", "withdrawn", "whole_period", "agrees", "closed"}
)

Body = Callable[[dict[str, str]], Any]

MAKES: dict[str, list[Body]] = {
    "createProject": [],
    "createCustomer": [],
    "saveCustomers": [],
    "issueApiKey": [lambda its: {"name": "x", "project": its["prj"]}],
    "addMember": [],
    "createBudget": [
        lambda its: {"scope": "api_key", "subject": its["key"], "window": "month", "limit_usd": "1"},
    ],
    "saveBudgets": [lambda its: {"items": [{"id": its["bud"], "limit_usd": "1"}]}],
    "createPriceOverride": [],
    "previewRerating": [],
    "createGuard": [],
    "createPolicy": [],
    "simulatePolicy": [
        lambda its: {
            "policy": {"rules": [{"name": "x", "when": {}, "then": {"action": "allow"}}]},
            "replaces": its["pol"],
        },
    ],
    "createRateCard": [],
    "previewRateCard": [
        lambda its: {"rate_card": its["rcd"], "starts_at": "2026-11-01T00:00:00Z"},
    ],
    "assignRateCard": [lambda its: {"rate_card": its["rcd"], "customers": ["acme"]}],
    "approvePresumed": [lambda its: {"hold": its["hold"], "reason": "x"}],
    "createAlertEmail": [],
    "createWebhookEndpoint": [],
    "updateTenant": [],
    "connectStripe": [],
    "updateStripe": [],
    "disconnectStripe": [],
    "setUpStripe": [],
    "buyPlan": [],
    "openPlanPortal": [],
    "previewPlan": [],
    "changePlan": [],
    "createStripeLink": [],
    "createWallet": [],
}
"""Routes without an id in their path that change something, and bodies in which they might take another's id."""


@dataclass(frozen=True)
class Two:
    """Two tenants with a bit of everything, and a way to see whether anything of Charlie's changed."""

    world: World
    alice: Account
    charlie: Account
    api: Api
    charlies_word: str
    its: dict[str, str]

    def digest(self) -> dict[str, str]:
        """What each table has of Charlie's."""
        tables = self.world.sql(
            """SELECT c.oid::regclass::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
            WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attname = 'tenant_id'
            AND NOT a.attisdropped AND c.relnamespace = 'public'::regnamespace ORDER BY 1"""
        )
        assert len(tables) > 10
        found = {}
        for (table,) in tables:
            ((rows,),) = self.world.sql(
                f"SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {table} t"
                " WHERE tenant_id = %s",
                self.charlie.tenant_id,
            )
            found[table] = rows
        ((tenant,),) = self.world.sql(
            "SELECT t::text FROM tenants_tenant t WHERE id = %s", self.charlie.tenant_id
        )
        return {**found, "tenants_tenant": tenant}

    def quiet(self) -> None:
        """Lets the gateway write what it writes a moment after it answered Charlie."""
        plane = self.world.app._plane
        self.charlie.acknowledged()
        self.world.run(plane.decisions.flush())
        self.world.run(plane.subjects._flush())

    def nobodys(self) -> dict[str, str]:
        """Ids of the same kinds that nobody has."""
        return {prefix: ids.encode(prefix, ids.new_uuid(utc_now())) for prefix in self.its}


@pytest.fixture(scope="module")
def two(_world: World) -> Two:
    from tests.api.billing_things import make_billing
    from tests.support.api import Api

    _world.recover()
    scopes = ("preflight", "settle", "read", "manage")
    word = f"charlies{ids.new_uuid(utc_now()).hex[-8:]}"
    callers = {}
    for who in ("alice", "charlie"):
        account = _world.account(who)
        callers[who] = (account, Api(secret=account.key(scopes).secret))
    (alice, api), (charlie, its_api) = callers["alice"], callers["charlie"]
    make_things(api, "alices")
    make_billing(alice.tenant_id, "alices")
    alice.settle(alice.place("$0.01"), "$0.01")
    its = make_things(its_api, word) | make_billing(charlie.tenant_id, word)
    placed = charlie.place("$0.01", customer=word)
    charlie.settle(placed, "$0.01")
    open_ = charlie.place("$0.02", customer=word)
    assert open_.decision == "allow"
    its["hold"] = placed["hold"]["id"]
    its["run"] = charlie.world.run(charlie.send("/v1/runs", {"subject": {"customer": word}}))["run"]
    both = Two(_world, alice, charlie, api, word, its)
    both.quiet()
    its["dec"] = its_api.get("/v1/decisions")["items"][0]["id"]
    return both


def first_word(route: Route) -> str:
    return route.path.split("/")[2]


def variables(route: Route) -> list[str]:
    return [part.strip("{}") for part in route.path.split("/") if part.startswith("{")]


def filled(route: Route, its: dict[str, str]) -> str:
    """The path with these ids in it. Fails for a variable that nobody classified."""
    path = route.path
    for name in variables(route):
        path = path.replace(f"{{{name}}}", its[OF_PATHS[first_word(route)][name]])
    return path


def operation(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = document()["paths"][route.path][route.method.lower()]
    return found


def example(route: Route) -> Any:
    """A body that the document shows for the route; None for a route without one."""
    media = operation(route).get("requestBody", {}).get("content", {}).get("application/json", {})
    return next((shown["value"] for shown in media.get("examples", {}).values()), None)


def same(answer: Answer, other: Answer) -> None:
    """Word for word the same, apart from what names the request and the ids that were sent."""
    assert answer.status == other.status, (answer, other)
    assert answer.headers["content-type"] == other.headers["content-type"]
    assert [{**a.body, "instance": ""} for a in (answer,)] == [{**a.body, "instance": ""} for a in (other,)]


def counted(what: str) -> int:
    """How many attempts of a kind SECURITY.md tells of. A new route or filter changes it: write the new number there."""
    text = (Path(__file__).resolve().parents[2] / "SECURITY.md").read_text()
    (number,) = re.findall(rf"^\| {re.escape(what)} \| (\d+) \| 0 \|$", text, re.MULTILINE)
    return int(number)


def routes() -> list[Route]:
    return [route for route in management_routes() if route.path not in PLAIN]


def try_paths(two: Two) -> int:
    """Asks each path with another's id in it; returns how many. Raises AssertionError where one tells of anything."""
    before, tried = two.digest(), 0
    for route in routes():
        if not variables(route):
            continue
        its, nobodys, body = filled(route, two.its), filled(route, two.nobodys()), example(route)
        answer, other = two.api.send(route.method, its, body), two.api.send(route.method, nobodys, body)
        assert (answer.status, answer.kind) == (404, "not-found"), (route.operation, answer)
        same(answer, other)
        tried += 1
    assert two.digest() == before
    return tried


class TestPaths:
    def test_with_another_s_id_answer_as_with_nobody_s(self, two: Two) -> None:
        assert try_paths(two) == counted("paths with another's id")

    def test_below_one_s_own_with_another_s_id_answer_as_with_nobody_s(self, two: Two) -> None:
        own = two.api.get("/v1/budgets")["items"][0]["id"]
        before, tried = two.digest(), 0
        for route in routes():
            if len(variables(route)) < 2:
                continue
            answers = [
                two.api.send(route.method, filled(route, {**those, "bud": own}), example(route))
                for those in (two.its, two.nobodys())
            ]
            assert answers[0].status == 404, (route.operation, answers[0])
            same(*answers)
            tried += 1
        assert tried == counted("paths below one's own with another's id")
        assert two.digest() == before


class TestLists:
    def test_show_nothing_of_another_s(self, two: Two) -> None:
        shown = 0
        for route in routes():
            if variables(route) or route.method != "GET":
                continue
            answer = two.api.get(route.path)
            assert answer.status == 200, (route.operation, answer)
            text = json.dumps(answer.body)
            assert two.charlies_word not in text, route.operation
            assert [thing for thing in two.its.values() if thing in text] == [], route.operation
            shown += 1
        assert shown == counted("lists")

    def test_filtered_by_another_s_id_answer_as_by_nobody_s(self, two: Two) -> None:
        nobodys, tried = two.nobodys(), 0
        for path, filters in FILTERS.items():
            for name, prefix in filters.items():
                asked: list[dict[str, Any]] = [{name: those[prefix]} for those in (two.its, nobodys)]
                answer, other = (two.api.get(path, **query) for query in asked)
                text = json.dumps(answer.body).replace(two.its[prefix], "ID")
                assert (answer.status, _timeless(text)) == (
                    other.status,
                    _timeless(json.dumps(other.body).replace(nobodys[prefix], "ID")),
                ), (path, name)
                tried += 1
        assert tried == counted("filters by another's id")

    def test_have_no_filter_that_nobody_classified(self) -> None:
        unknown = [
            f"{route.path}: {parameter['name']}"
            for route in routes()
            if route.method == "GET"
            for parameter in operation(route).get("parameters", [])
            if parameter.get("in") == "query"
            and parameter["name"] not in WORDS | FILTERS.get(route.path, {}).keys()
        ]
        assert unknown == []


def _timeless(text: str) -> str:
    """Without what tells one moment, or one request, from the next."""
    value = json.loads(text)
    if isinstance(value, dict):
        for name in ("instance", "as_of", "fresh_until", "complete_until", "from", "to"):
            value.pop(name, None)
    return json.dumps(value, sort_keys=True)


class TestBodies:
    def test_with_another_s_id_answer_as_with_nobody_s(self, two: Two) -> None:
        before, nobodys, tried = two.digest(), two.nobodys(), 0
        for route in routes():
            if variables(route) or route.method == "GET":
                continue
            # A KeyError here: say in MAKES which ids the new route's body may name.
            for body in MAKES[operation(route)["operationId"]]:
                answer, other = (
                    two.api.send(route.method, route.path, body(those)) for those in (two.its, nobodys)
                )
                assert answer.status in (400, 404), (route.operation, answer)
                text = json.dumps({**answer.body, "instance": ""})
                told = json.dumps({**other.body, "instance": ""})
                for thing, nothing in zip(two.its.values(), nobodys.values(), strict=True):
                    text, told = text.replace(thing, "ID"), told.replace(nothing, "ID")
                assert text == told, route.operation
                tried += 1
        assert tried == counted("bodies with another's id")
        assert two.digest() == before

    def test_cannot_say_whose_a_thing_is(self, two: Two) -> None:
        before, tried = two.digest(), 0
        charlie = ids.encode(ids.TENANT, two.charlie.tenant_id)
        for route in routes():
            body = example(route)
            if route.method == "GET" or not isinstance(body, dict) or variables(route):
                continue
            answer = two.api.send(route.method, route.path, {**body, "tenant_id": charlie})
            assert (answer.status, "tenant_id" in answer.fields) == (400, True), (route.operation, answer)
            tried += 1
        assert tried == counted("bodies that say whose a thing is")
        assert two.digest() == before

    def test_under_another_s_header_is_still_the_key_s_own(self, two: Two) -> None:
        charlie = ids.encode(ids.TENANT, two.charlie.tenant_id)
        answer = two.api.get("/v1/tenant", headers={"Noburn-Tenant": charlie})
        assert answer["id"] == ids.encode(ids.TENANT, two.alice.tenant_id)


class TestGateway:
    @pytest.mark.parametrize("path", ["/v1/settle", "/v1/void", "/v1/holds/{id}/extend"])
    def test_takes_another_s_authorization_for_a_forged_one(self, two: Two, path: str) -> None:
        placed = two.charlie.place("$0.01", customer=two.charlies_word)
        two.quiet()
        before = two.digest()
        token = placed["authorization"]
        forged = token[:-4] + ("aaaa" if token[-4:] != "aaaa" else "bbbb")
        answers = [
            two.world.run(
                two.alice.send(
                    path.replace("{id}", placed["hold"]["id"]),
                    {"authorization": text, **({"usage": None} if path == "/v1/settle" else {})},
                )
            )
            for text in (token, forged)
        ]
        assert (answers[0].status, answers[0].kind) == (400, "invalid-authorization")
        same(*answers)
        assert two.digest() == before

    def test_settles_no_item_of_another_s_in_a_batch(self, two: Two) -> None:
        placed, own = two.charlie.place("$0.01", customer=two.charlies_word), two.alice.place("$0.01")
        two.quiet()
        before = two.digest()
        items = [{"authorization": a["authorization"], "usage": None} for a in (placed, own)]
        answer = two.world.run(two.alice.send("/v1/settle/batch", {"settlements": items}))
        assert [result["status"] for result in answer["results"]] == [400, 200]
        assert two.digest() == before

    def test_shows_no_budget_of_another_s(self, two: Two) -> None:
        answer = two.world.request(
            "GET", f"/v1/remaining?customer={two.charlies_word}", secret=two.alice.secret
        )
        assert two.its["bud"] not in json.dumps(answer.body)
        assert answer.status == 200
