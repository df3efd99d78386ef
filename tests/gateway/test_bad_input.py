"""What is no valid request: each answers a problem that says what to do."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from noburn.kit.problems import REGISTRY
from noburn.runtime.embedded import ROOT
from tests.support.asgi import Answer

if TYPE_CHECKING:
    from tests.support.world import Account

pytestmark = pytest.mark.real_db

POSTS = ("/v1/preflight", "/v1/settle", "/v1/settle/batch", "/v1/void")


def post(alice: Account, path: str, raw: bytes, **options: Any) -> Answer:
    answer: Answer = alice.world.request("POST", path, raw=raw, secret=alice.secret, **options)
    return answer


def assert_problem(answer: Answer, status: int, kind: str) -> None:
    assert (answer.status, answer.kind) == (status, kind), answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer["status"] == status
    assert answer["title"] == REGISTRY[kind].title
    assert answer["detail"]
    assert answer["instance"] == f"urn:request:{answer.headers['x-request-id']}"
    assert (ROOT / "docs" / "problems" / f"{kind}.md").is_file()


class TestBody:
    @pytest.mark.parametrize("path", POSTS)
    @pytest.mark.parametrize(
        "raw",
        [b"", b"{", b"not json", b'{"model": "\xff\xfe"}', b"\xff\xfe\x00{", b'{"a": 1} trailing', b"NaN"],
    )
    def test_that_is_not_json_in_utf_8_says_so(self, alice: Account, path: str, raw: bytes) -> None:
        answer = post(alice, path, raw)
        assert_problem(answer, 400, "invalid-request")
        assert "not JSON in UTF-8" in answer["detail"]

    @pytest.mark.parametrize("raw", [b"[]", b'"text"', b"7", b"null", b"true"])
    def test_that_is_no_object_says_so(self, alice: Account, raw: bytes) -> None:
        answer = post(alice, "/v1/preflight", raw)
        assert_problem(answer, 400, "invalid-request")
        assert "object" in answer["detail"]

    @pytest.mark.parametrize("raw", [b"[" * 30_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000])
    def test_that_is_nested_without_end_is_refused(self, alice: Account, raw: bytes) -> None:
        assert_problem(post(alice, "/v1/preflight", raw), 400, "invalid-request")

    @pytest.mark.parametrize("path", POSTS)
    def test_of_ten_megabytes_is_too_large(self, alice: Account, path: str) -> None:
        answer = post(alice, path, b'{"model": "' + b"x" * 10_000_000 + b'"}')
        assert_problem(answer, 413, "body-too-large")
        assert "bytes" in answer["detail"]

    def test_that_is_too_large_is_not_read_to_its_end(self, alice: Account) -> None:
        read = 0

        async def receive() -> dict[str, Any]:
            nonlocal read
            read += 65_536
            return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}

        told: dict[str, Any] = {}

        async def send(message: Any) -> None:
            told.update(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/preflight",
            "query_string": b"",
            "headers": [],
        }
        alice.world.run(alice.world.app(scope, receive, send))
        assert told["status"] == 413
        assert read < 10 * 65_536

    def test_in_pieces_is_put_together(self, alice: Account) -> None:
        body = json.dumps(alice.call("$0.40")).encode()
        pieces = [body[:10], body[10:20], body[20:]]

        async def receive() -> dict[str, Any]:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        told: dict[str, Any] = {}

        async def send(message: Any) -> None:
            told.update(message)

        headers = [(b"authorization", f"Bearer {alice.secret}".encode()), (b"idempotency-key", b"pieces")]
        headers.append((b"content-type", b"application/json"))
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/preflight",
            "query_string": b"",
            "headers": headers,
        }
        alice.world.run(alice.world.app(scope, receive, send))
        assert json.loads(told["body"])["decision"] == "allow"


class TestFields:
    def test_every_wrong_one_is_named_at_once(self, alice: Account) -> None:
        answer = alice.place(
            model=7,
            input_tokens=-1,
            max_output_tokens=0,
            n="many",
            ttl_seconds=901,
            wait_ms=10_001,
            tags={"a": 1},
            dry_run="yes",
        )
        assert_problem(answer, 400, "invalid-request")
        names = {name.split(".")[0].split("[")[0] for name in answer.fields}
        assert names == {
            "model", "input_tokens", "max_output_tokens", "n", "ttl_seconds", "wait_ms", "tags", "dry_run",
        }  # fmt: skip
        assert all(answer.fields.values())

    @pytest.mark.parametrize("name", ["input_tokens", "max_output_tokens", "cached_input_tokens", "images"])
    @pytest.mark.parametrize("count", [-1, 10**12, 10**30, 1.5, "12", True])
    def test_an_absurd_count_is_named(self, alice: Account, name: str, count: Any) -> None:
        answer = alice.place(model="gpt-4o-mini", **{name: count})
        assert_problem(answer, 400, "invalid-request")
        assert list(answer.fields) == [name]

    def test_a_missing_model_is_named(self, alice: Account) -> None:
        assert alice.place(input_tokens=1).fields == {"model": "is missing"}

    @pytest.mark.parametrize(
        "cost", ["-1", "0.1234567891", "1e3", "NaN", "", "$1", "9007200", "1,5", " 1", "0x10", "٣"]
    )
    def test_an_amount_that_is_none_is_named(self, alice: Account, cost: str) -> None:
        answer = alice.place(model="own-tool", cost_usd=cost)
        assert_problem(answer, 400, "invalid-request")
        assert list(answer.fields) == ["cost_usd"]

    def test_eleven_tags_are_too_many(self, alice: Account) -> None:
        answer = alice.place("$0.40", tags={f"t{n}": "x" for n in range(11)})
        assert answer.fields == {"tags": "at most 10 tags, not 11"}

    def test_an_unknown_project_is_named(self, alice: Account) -> None:
        body = alice.call("$0.40")
        body["subject"]["project"] = "nowhere"
        answer = alice.world.run(alice.send("/v1/preflight", body))
        assert answer.fields == {"subject.project": "no project 'nowhere'; create it first"}

    def test_a_model_of_several_providers_asks_for_one(self, alice: Account) -> None:
        answer = alice.place(model="moonshotai/kimi-k3", input_tokens=10)
        assert_problem(answer, 422, "unknown-model")
        assert "is needed" in answer.fields["provider"]

    def test_a_usage_that_cannot_be_is_named(self, alice: Account) -> None:
        placed = alice.place(model="gpt-4o-mini", input_tokens=10)
        for usage, field in (
            ({"input_tokens": -1}, "usage.input_tokens"),
            ({"output_tokens": 10**12}, "usage.output_tokens"),
            ({"input_tokens": 5, "cache_read_tokens": 6}, "usage.input_tokens"),
            ({"input_tokens": "many"}, "usage.input_tokens"),
            ({"tool_calls": {"web_search": -1}}, "usage.tool_calls.web_search"),
        ):
            answer = alice.settle(placed, usage=usage)
            assert_problem(answer, 400, "invalid-request")
            assert list(answer.fields) == [field]
        assert alice.ledger() == []

    def test_a_cost_that_is_none_is_named_when_settling(self, alice: Account) -> None:
        placed = alice.place("$0.40")
        for cost in ("-0.1", "9007200", "free"):
            assert list(alice.settle(placed, usage={}, cost_usd=cost).fields) == ["cost_usd"]
        assert alice.ledger() == []

    def test_a_strange_name_is_taken_as_it_is(self, alice: Account) -> None:
        alice.budget("each", "$1", subject="*")
        for customer in ("ÄÖÜ", "a'b\"c", "*", "{nb01}", "👩‍🚀", "a|b", "x" * 200):
            assert alice.place("$0.40", customer=customer).decision == "allow", customer
            assert alice.place("$0.70", customer=customer).decision == "budget_busy", customer
        assert not alice.verify().differences

    def test_the_longest_names_that_are_allowed_can_be_settled(self, alice: Account) -> None:
        long = "👩" * 200
        placed = alice.place(
            "$0.40",
            model=long,
            provider=long,
            subject=dict.fromkeys(("customer", "user", "run", "plan"), long),
            tags={"👩" * 63 + str(number): long for number in range(10)},
        )
        assert placed.decision == "allow"
        assert alice.settle(placed, "$0.10")["state"] == "settled"

    def test_a_name_that_postgresql_cannot_hold_is_refused_before_anything_is_held(
        self, alice: Account
    ) -> None:
        for body in (
            alice.call("$0.40", customer="a\u0000b"),
            alice.call("$0.40", tags={"t": "\u0000"}),
            alice.call("$0.40") | {"model": "m\u0000"},
        ):
            assert_problem(alice.world.run(alice.send("/v1/preflight", body)), 400, "invalid-request")
        assert alice.verify().totals.open_holds == 0

    def test_a_lone_surrogate_is_refused(self, alice: Account) -> None:
        raw = b'{"model": "own-tool", "cost_usd": "0.1", "subject": {"customer": "\\ud800"}}'
        assert_problem(post(alice, "/v1/preflight", raw), 400, "invalid-request")


class TestIdempotencyKey:
    @pytest.mark.parametrize("path", POSTS)
    def test_is_needed_on_every_post(self, alice: Account, path: str) -> None:
        answer = alice.world.request("POST", path, body={}, secret=alice.secret, idempotency_key=None)
        assert_problem(answer, 400, "idempotency-key-missing")
        assert "Idempotency-Key" in answer["detail"]

    def test_has_at_most_255_characters(self, alice: Account) -> None:
        assert alice.place("$0.1", key="x" * 255).status == 200
        assert_problem(alice.place("$0.1", key="x" * 256), 400, "invalid-request")


class TestApiKey:
    @pytest.mark.parametrize("path", POSTS)
    def test_is_needed(self, alice: Account, path: str) -> None:
        answer = alice.world.request("POST", path, body={})
        assert_problem(answer, 401, "unauthorized")
        assert "Bearer nb_live_" in answer["detail"]

    def test_with_a_mistyped_letter_is_told_from_an_unknown_one(self, alice: Account) -> None:
        at = len("nb_live_") + 3
        typo = alice.secret[:at] + ("A" if alice.secret[at] != "A" else "B") + alice.secret[at + 1 :]
        answer = alice.world.run(alice.send("/v1/preflight", {}, secret=typo))
        assert_problem(answer, 401, "unauthorized")
        assert "not an API key" in answer["detail"]

    @pytest.mark.parametrize("secret", ["nb_live_", "sk-123", "nb_live_" + "x" * 5000, "nb_live_ü"])
    def test_of_another_form_is_refused(self, alice: Account, secret: str) -> None:
        answer = alice.world.run(alice.send("/v1/preflight", {}, secret=secret))
        assert_problem(answer, 401, "unauthorized")
        assert len(secret) < 20 or secret not in json.dumps(answer.body)

    def test_that_nobody_was_given_is_unknown(self, alice: Account) -> None:
        from tenants.domain import api_keys

        answer = alice.world.run(alice.send("/v1/preflight", {}, secret=api_keys.generate(random.Random(7))))
        assert_problem(answer, 401, "unauthorized")
        assert "No tenant knows" in answer["detail"]

    def test_without_the_scope_to_read_may_not_read(self, alice: Account) -> None:
        key = alice.key(["preflight"])
        for path in ("/v1/remaining", "/v1/prices"):
            answer = alice.world.request("GET", path, secret=key.secret)
            assert_problem(answer, 403, "forbidden-scope")
            assert "'read'" in answer["detail"]


class TestPath:
    @pytest.mark.parametrize(
        "path", ["/v1/nothing", "/v1/preflight/", "/v1/holds/x/prolong", "/v1/holds/", "/"]
    )
    def test_that_is_unknown_is_not_found(self, alice: Account, path: str) -> None:
        assert_problem(alice.world.request("POST", path, body={}, secret=alice.secret), 404, "not-found")

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [
            ("GET", "/v1/preflight", "POST"),
            ("DELETE", "/v1/settle", "POST"),
            ("PUT", "/v1/holds/hold_x/extend", "POST"),
            ("POST", "/v1/remaining", "GET"),
            ("POST", "/v1/prices", "GET"),
        ],
    )
    def test_with_another_method_says_which_it_takes(
        self, alice: Account, method: str, path: str, allowed: str
    ) -> None:
        answer = alice.world.request(method, path, body={}, secret=alice.secret)
        assert_problem(answer, 405, "method-not-allowed")
        assert f"takes {allowed}, not {method}" in answer["detail"]
        assert answer.headers["allow"] == allowed


class TestRemaining:
    def test_names_every_wrong_parameter(self, alice: Account) -> None:
        answer = alice.world.request(
            "GET", f"/v1/remaining?colour=1&customer={'x' * 201}&project=none", secret=alice.secret
        )
        assert_problem(answer, 400, "invalid-request")
        assert set(answer.fields) == {"colour", "customer", "project"}

    def test_of_fifty_one_parameters_is_refused(self, alice: Account) -> None:
        many = "&".join(f"p{number}=1" for number in range(51))
        for path in ("/v1/remaining", "/v1/prices"):
            answer = alice.world.request("GET", f"{path}?{many}", secret=alice.secret)
            assert_problem(answer, 400, "invalid-request")

    def test_under_seventeen_budgets_says_so(self, alice: Account) -> None:
        for number in range(17):
            alice.budget(f"b{number}", "$1", subject="acme")
        answer = alice.world.request("GET", "/v1/remaining?customer=acme", secret=alice.secret)
        assert_problem(answer, 422, "too-many-budgets")

    def test_shows_the_tightest_budget_first(self, alice: Account) -> None:
        alice.budget("all", "$10", scope="tenant")
        alice.budget("acme", "$1")
        alice.place("$0.40")
        answer = alice.world.request("GET", "/v1/remaining?customer=acme", secret=alice.secret)
        assert [(b["scope"], b["remaining_usd"]) for b in answer["budgets"]] == [
            ("customer", "0.6"),
            ("tenant", "9.6"),
        ]


class TestPrices:
    def test_are_sent_once_for_an_etag(self, alice: Account) -> None:
        first = alice.world.request("GET", "/v1/prices?provider=openai", secret=alice.secret)
        assert first.status == 200
        assert any(p["model"] == "gpt-4o-mini" for p in first["prices"])
        again = alice.world.request(
            "GET",
            "/v1/prices?provider=openai",
            secret=alice.secret,
            headers={"if-none-match": first.headers["etag"]},
        )
        assert (again.status, again.body) == (304, None)


class TestHealth:
    def test_is_told_to_anybody(self, alice: Account) -> None:
        assert alice.world.request("GET", "/healthz").body == {"status": "ok"}
        assert alice.world.request("GET", "/readyz").body == {"status": "ready"}


class TestProblemPages:
    def test_exist_for_every_kind_and_no_other(self) -> None:
        pages = {path.stem for path in (ROOT / "docs" / "problems").glob("*.md")} - {"README", "index"}
        assert pages == set(REGISTRY)
