"""API keys at the gateway: revoked at once everywhere, under two peppers, never guessed, and never too many calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from django.conf import settings

from budgets.gateway.app import GatewayApp
from noburn.kit.rates import Rate
from tenants.domain import api_keys
from tenants.models import ApiKey
from tenants.services.keys import revoke_key
from tenants.services.leaks import report_leak
from tenants.services.rates import set_rates
from tests.support.asgi import Answer, send
from tests.support.world import gateway_config

if TYPE_CHECKING:
    from tests.support.world import Account, World

pytestmark = pytest.mark.real_db

SCOPES = ["preflight", "settle", "read", "manage"]


class Gateways:
    """Gateways that share nothing but the servers, as processes do."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._apps: list[GatewayApp] = []

    def another(self, **changes: Any) -> GatewayApp:
        app = GatewayApp(replace(gateway_config(), **changes))
        self._world.run(app.startup())
        self._apps.append(app)
        return app

    def ask(self, app: GatewayApp, method: str, path: str, **options: Any) -> Answer:
        answer: Answer = self._world.run(send(app, method, path, **options))
        return answer

    def close(self) -> None:
        for app in self._apps:
            self._world.run(app.shutdown())


@pytest.fixture
def gateways(world: World) -> Iterator[Gateways]:
    made = Gateways(world)
    yield made
    made.close()


def requests_of(alice: Account, placed: Answer) -> list[tuple[str, str, object]]:
    """One request for everything that needs a live key."""
    return [
        ("POST", "/v1/preflight", alice.call("$0.01")),
        ("POST", "/v1/preflight", alice.call("$0.01", dry_run=True)),
        (
            "POST",
            "/v1/leases",
            {"model": "gpt-4o-mini", "amount_usd": "0.01", "subject": {"customer": "acme"}},
        ),
        (
            "POST",
            f"/v1/holds/{placed['hold']['id']}/extend",
            {"authorization": placed["authorization"], "ttl_seconds": 60},
        ),
        ("GET", "/v1/remaining?customer=acme", None),
        ("GET", "/v1/prices", None),
        ("POST", "/v1/runs", {"run": "r1", "caps": {"usd": "1"}}),
        ("POST", "/v1/runs/r1/stop", {}),
    ]


class TestRevocation:
    @pytest.mark.parametrize("how", ["revoked", "reported"])
    def test_holds_for_the_next_request_to_another_gateway(
        self, alice: Account, gateways: Gateways, how: str
    ) -> None:
        alice.budget("acme", "$5")
        issued = alice.key(SCOPES)
        placed = alice.place("$0.10")
        # Each gateway has the policy in memory from before, and is asked one thing: the first after the revocation.
        wanted = requests_of(alice, placed)
        apps = [gateways.another() for _ in wanted]
        for app in apps:
            seen = gateways.ask(app, "GET", "/v1/remaining?customer=acme", secret=issued.secret)
            assert seen.status == 200
        now = datetime.now(UTC)
        if how == "revoked":
            revoke_key(tenant_id=alice.tenant_id, key_id=issued.key.pk, actor="test", now=now)
        else:
            report_leak(text=issued.secret, where="a test", now=now)
        for app, (method, path, body) in zip(apps, wanted, strict=True):
            answer = gateways.ask(app, method, path, body=body, secret=issued.secret)
            assert (answer.status, answer.kind) == (401, "unauthorized"), (method, path, answer)
        # What was spent is recorded all the same.
        settled = gateways.ask(
            apps[0],
            "POST",
            "/v1/settle",
            body={"authorization": placed["authorization"], "usage": None, "cost_usd": "0.10"},
            secret=issued.secret,
        )
        assert settled.status == 200


class TestPeppers:
    def test_find_a_key_under_the_one_before(self, alice: Account, gateways: Gateways) -> None:
        alice.budget("acme", "$5")
        other = b"p" * 32
        rotated = gateways.another(
            pepper=other, pepper_previous=settings.NOBURN_PEPPER, id_key=settings.NOBURN_PEPPER
        )
        call = alice.call("$0.10")
        # A repeat finds what the first one made, though the pepper changed in between.
        first = alice.world.request(
            "POST", "/v1/preflight", body=call, secret=alice.secret, idempotency_key="same"
        )
        again = gateways.ask(
            rotated, "POST", "/v1/preflight", body=call, secret=alice.secret, idempotency_key="same"
        )
        assert again["authorization"] == first["authorization"]
        with patch.object(settings, "NOBURN_PEPPER", other):
            fresh = alice.key(SCOPES)
        assert fresh.key.pepper == api_keys.pepper_id(other)
        for secret in (fresh.secret, alice.secret):
            answer = gateways.ask(rotated, "GET", "/v1/remaining?customer=acme", secret=secret)
            assert answer.status == 200
        dropped = gateways.another(pepper=other)
        assert gateways.ask(dropped, "GET", "/v1/prices", secret=fresh.secret).status == 200
        assert gateways.ask(dropped, "GET", "/v1/prices", secret=alice.secret).status == 401


def unknown(letter: str) -> str:
    """A key that is spelled like one, and that no tenant has."""
    head = "nb_live_" + letter * 32
    return head + api_keys._checksum(head)


class TestGuessing:
    def test_is_slowed_down_by_address_and_keeps_nobody_else_out(
        self, alice: Account, gateways: Gateways
    ) -> None:
        app = gateways.another(wrong_keys_per_minute=3, trusted_proxies=1)
        strange = unknown("a")
        here, there = {"x-forwarded-for": "1.1.1.1"}, {"x-forwarded-for": "1.1.1.1, 2.2.2.2"}
        known = {"headers": here, "secret": alice.secret}
        assert gateways.ask(app, "GET", "/v1/prices", **known).status == 200
        statuses = [
            gateways.ask(app, "GET", "/v1/prices", secret=strange, headers=here).status for _ in range(5)
        ]
        assert statuses == [401, 401, 401, 429, 429]
        refused = gateways.ask(app, "GET", "/v1/prices", secret=strange, headers=here)
        assert (refused.kind, refused.headers["retry-after"]) == ("too-many-requests", "20")
        # A key that is known passes, and so does another address.
        assert gateways.ask(app, "GET", "/v1/prices", **known).status == 200
        assert gateways.ask(app, "GET", "/v1/prices", secret=strange, headers=there).status == 401
        # So does one of the same address that this process has not met.
        charlie = alice.world.account("charlie")
        answer = gateways.ask(app, "GET", "/v1/prices", secret=charlie.secret, headers=here)
        assert answer.status == 200
        # What is no key at all is looked up nowhere, and counts for nothing.
        assert gateways.ask(app, "GET", "/v1/prices", secret="nb_live_x", headers=here).status == 401

    def test_by_the_hundred_is_looked_up_no_more(self, alice: Account, gateways: Gateways) -> None:
        app = gateways.another(wrong_keys_per_minute=1)
        with patch("budgets.gateway.turnstile.SECOND_LOOKS", Rate(1 / 3600, 2)):
            statuses = [
                gateways.ask(app, "GET", "/v1/prices", secret=unknown(letter)).status for letter in "abcd"
            ]
            assert statuses == [401, 429, 429, 429]
            # The two second looks are taken: now the address waits with every key that is not in memory.
            assert gateways.ask(app, "GET", "/v1/prices", secret=alice.secret).status == 429

    def test_with_one_key_again_and_again_takes_nobody_s_look(
        self, alice: Account, gateways: Gateways
    ) -> None:
        app = gateways.another(wrong_keys_per_minute=1)
        with (
            patch("budgets.gateway.turnstile.SECOND_LOOKS", Rate(1 / 3600, 2)),
            patch("budgets.services.snapshots.UNKNOWN_SECONDS", 3600.0),
        ):
            statuses = [gateways.ask(app, "GET", "/v1/prices", secret=unknown("e")).status for _ in range(10)]
            assert statuses == [401] + [429] * 9
            assert gateways.ask(app, "GET", "/v1/prices", secret=alice.secret).status == 200


class TestRates:
    def test_bound_a_key_and_never_a_settlement(self, alice: Account, gateways: Gateways) -> None:
        alice.budget("acme", "$5")
        app = gateways.another(key_calls_per_second=1)
        answers = [
            gateways.ask(app, "POST", "/v1/preflight", body=alice.call("$0.01"), secret=alice.secret)
            for _ in range(12)
        ]
        assert [answer.status for answer in answers[:2]] == [200, 200]
        refused = next(answer for answer in answers if answer.status == 429)
        assert refused.headers["ratelimit-limit"] == "2"
        assert refused.headers["ratelimit-remaining"] == "0"
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["content-type"] == "application/problem+json"
        for placed in answers[:2]:
            for _ in range(5):
                settled = gateways.ask(
                    app,
                    "POST",
                    "/v1/settle",
                    body={"authorization": placed["authorization"], "usage": None, "cost_usd": "0.01"},
                    secret=alice.secret,
                )
                assert settled.status == 200

    def test_of_a_tenant_bound_all_its_keys_together(self, alice: Account, gateways: Gateways) -> None:
        app = gateways.another(calls_per_second=2)
        secrets = [alice.key(SCOPES).secret for _ in range(12)]
        statuses = [gateways.ask(app, "GET", "/v1/prices", secret=secret).status for secret in secrets]
        assert statuses[:4] == [200] * 4
        assert 429 in statuses
        charlie = alice.world.account("charlie")
        assert gateways.ask(app, "GET", "/v1/prices", secret=charlie.secret).status == 200

    def test_of_its_own_hold_for_the_next_call(self, alice: Account, gateways: Gateways) -> None:
        app = gateways.another()
        statuses = [gateways.ask(app, "GET", "/v1/prices", secret=alice.secret).status for _ in range(10)]
        assert statuses == [200] * 10
        set_rates(
            tenant_id=alice.tenant_id, rates={"calls_per_second": 1}, actor="test", now=datetime.now(UTC)
        )
        statuses = [gateways.ask(app, "GET", "/v1/prices", secret=alice.secret).status for _ in range(8)]
        assert 429 in statuses


class TestMutants:
    def test_of_a_key_open_nothing(self, alice: Account) -> None:
        secret = alice.secret
        letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
        mutants = [
            secret[:at] + letters[(letters.find(letter) + 1) % 62] + secret[at + 1 :]
            for at, letter in enumerate(secret)
        ]
        mutants += [secret[:length] for length in range(1, len(secret))]
        mutants += [secret + "0", secret[::-1], secret.swapcase(), f"{secret} {secret}", secret + "\x00"]
        # With a checksum of its own, a changed key is one that nobody was given.
        heads = [mutant[:40] for mutant in mutants if len(mutant) == len(secret)]
        mutants += [head + api_keys._checksum(head) for head in heads]
        for mutant in set(mutants) - {secret}:
            answer = alice.world.request("GET", "/v1/prices", secret=mutant)
            assert (answer.status, answer.kind) == (401, "unauthorized"), mutant
        assert ApiKey.objects.filter(tenant_id=alice.tenant_id).count() == 1
