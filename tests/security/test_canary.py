"""Prompts and answers are never kept: words that occur nowhere else go through everything, and are looked for."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import noburn_sdk
import openai
import psycopg
import pytest
from noburn_sdk import Gate

from noburn.runtime.home import Home
from tests.proxy.recorder import Recorder, Told
from tests.proxy.running import Proxy
from tests.proxy.test_clients import headers_of
from tests.security.searching import in_files, in_lines, in_redis, in_tables, server_at

if TYPE_CHECKING:
    from tests.sdk.plane import Plane

pytestmark = pytest.mark.real_db

MODEL = "gpt-4o-mini"
DECISIONS = 10
"""At least so many calls are decided about: five by each client."""
POLLS_MAX = 100_000
OURS = ("noburn", "budgets", "tenants", "alerts", "billing", "proxy", "django")


class Words:
    """Words that occur nowhere else, by where they are put."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}

    def __call__(self, place: str) -> str:
        return self.made.setdefault(place, f"canary{uuid4().hex}")


@pytest.fixture
def words() -> Words:
    return Words()


def answer(text: str) -> Told:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25},
    }
    return Told(pieces=[json.dumps(body).encode()])


def stream(text: str) -> Told:
    """Some pieces of an answer and no end, so that it is settled as cut."""
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}],
    }
    pieces = [f"data: {json.dumps(chunk)}\n\n".encode(), b"data: [DONE]\n\n"]
    return Told(headers={"content-type": "text/event-stream"}, pieces=pieces)


def failure(status: int, text: str) -> Told:
    body = {"error": {"message": text, "type": "invalid_request_error", "param": text, "code": text}}
    return Told(status=status, pieces=[json.dumps(body).encode()])


def prompt(words: Words, who: str) -> dict[str, Any]:
    """A request with a word in every place where people write."""
    parts = [
        {"type": "text", "text": f"Say {words(f'{who} part')} twice."},
        {"type": "image_url", "image_url": {"url": f"https://example.com/{words(f'{who} image')}.png"}},
    ]
    parameters = {"type": "object", "properties": {words(f"{who} property"): {"type": "string"}}}
    function = {"name": "look_up", "description": words(f"{who} tool"), "parameters": parameters}
    return {
        "model": MODEL,
        "max_completion_tokens": 40,
        "messages": [
            {"role": "system", "content": words(f"{who} system")},
            {"role": "user", "content": parts},
        ],
        "tools": [{"type": "function", "function": function}],
        "stop": [words(f"{who} stop")],
    }


def answers(words: Words, who: str) -> list[Told]:
    """One answer of every kind."""
    return [
        answer(words(f"{who} answer")),
        stream(words(f"{who} stream")),
        failure(400, words(f"{who} refused")),
        failure(500, words(f"{who} failed")),
        Told(pieces=[words(f"{who} nonsense").encode()]),
    ]


def through_the_sdk(words: Words, gate: Gate, recorder: Recorder, customer: str) -> None:
    client = noburn_sdk.wrap(
        openai.OpenAI(
            base_url=f"http://127.0.0.1:{recorder.port}/v1", api_key=words("sdk key"), max_retries=0
        )
    )
    for told in answers(words, "sdk"):
        recorder.script = [told]
        streamed = "event-stream" in told.headers["content-type"]
        try:
            with noburn_sdk.context(customer=customer):
                got = client.chat.completions.create(**prompt(words, "sdk"), stream=streamed)
                if streamed:
                    list(got)
        except (openai.APIError, ValueError, TypeError, AttributeError):
            pass
    assert len(recorder.seen) >= 5
    noburn_sdk.flush(60)


def through_the_proxy(words: Words, proxy: Proxy, recorder: Recorder, headers: dict[str, str]) -> None:
    said = {**headers, "Authorization": f"Bearer {words('proxy key')}"}
    url = f"{proxy.url}/recorder/v1/chat/completions"
    with httpx.Client(trust_env=False, timeout=240) as client:
        for told in answers(words, "proxy"):
            recorder.script = [told]
            streamed = "event-stream" in told.headers["content-type"]
            client.post(url, headers=said, json={**prompt(words, "proxy"), "stream": streamed})
        # What is no request of this API, what is no JSON, and what is too long.
        client.post(url, headers=said, json={"model": MODEL, "messages": words("proxy bad")})
        client.post(url, headers=said, content=b'{"messages": "' + words("proxy torn").encode())
        client.post(f"{url}?q={words('proxy query')}", headers=said, json={"model": MODEL})
        long = words("proxy long") * 1_200_000
        client.post(url, headers=said, json={"model": MODEL, "messages": [{"role": "user", "content": long}]})


def through_the_gateway(words: Words, plane: Plane) -> None:
    headers = {"Authorization": f"Bearer {plane.secret}", "Idempotency-Key": uuid4().hex}
    call = {"model": MODEL, "input_tokens": 10, "max_output_tokens": 10, "subject": {"customer": "acme"}}
    bodies: list[bytes] = [
        json.dumps({**call, "messages": [{"content": words("gateway unknown field")}]}).encode(),
        json.dumps({**call, words("gateway name"): 1}).encode(),
        json.dumps({**call, "input_tokens": words("gateway wrong type")}).encode(),
        json.dumps({**call, "subject": [words("gateway wrong shape")]}).encode(),
        b'{"prompt": "' + words("gateway torn").encode(),
        json.dumps({**call, "prompt": words("gateway long") * 3_000}).encode(),
        words("gateway plain").encode(),
    ]
    statuses = set()
    with httpx.Client(base_url=plane.url, trust_env=False, timeout=60) as client:
        for path in ("/v1/preflight", "/v1/settle", "/v1/void", "/v1/settle/batch", "/v1/leases", "/v1/runs"):
            for body in bodies:
                told = client.post(path, headers={**headers, "Idempotency-Key": uuid4().hex}, content=body)
                statuses.add(told.status_code)
    assert {200, 400, 413} <= statuses, statuses


def through_the_api(words: Words, secret: str) -> None:
    from tests.support.api import Api

    api = Api(secret=secret)
    for path in ("/v1/customers", "/v1/budgets", "/v1/policies", "/v1/webhook-endpoints"):
        api.post(path, {"prompt": words("api unknown field"), "messages": [words("api message")]})
        api.post(path, [words("api wrong shape")])


def wait_for_decisions(plane: Plane) -> None:
    """Returns when the log of decisions, which is written a moment after the calls, has those of the tenant."""
    for _ in range(POLLS_MAX):
        (count,) = plane.account.world.sql(
            "SELECT count(*) FROM decisions WHERE tenant_id = %s", plane.account.tenant_id
        )[0]
        if count >= DECISIONS:
            return
    raise AssertionError("the decisions are not written")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Everything that our own loggers say, at their most talkative; the clients' own loggers are their users'."""
    kept = {name: logging.getLogger(name).level for name in OURS}
    for name in OURS:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield caplog
    for name, level in kept.items():
        logging.getLogger(name).setLevel(level)


def lines_of(log: pytest.LogCaptureFixture) -> list[str]:
    formatter = logging.Formatter("%(name)s %(message)s")
    return [formatter.format(record) for record in log.records if record.name.split(".")[0] in OURS]


class TestPromptsAndAnswers:
    def test_are_kept_nowhere(
        self,
        words: Words,
        plane: Plane,
        gate: Gate,
        proxy: Proxy,
        recorder: Recorder,
        servers: dict[str, str],
        owner_database_url: str,
        log: pytest.LogCaptureFixture,
        tmp_path: Path,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        customer = plane.customer()
        through_the_sdk(words, gate, recorder, customer.name)
        through_the_proxy(words, proxy, recorder, headers_of(plane, customer.name))
        through_the_gateway(words, plane)
        through_the_api(words, plane.secret)
        sent = b"".join(seen.body for seen in recorder.seen).decode()
        assert all(words(f"{who} part") in sent for who in ("sdk", "proxy")), "the prompts were not sent"
        # What was settled stands in the ledger: the calls went through everything.
        booked = {entry["kind"] for entry in customer.ledger()}
        assert "settled" in booked

        wait_for_decisions(plane)
        looked_for = list(words.made.values())
        assert len(looked_for) > 30
        with psycopg.connect(owner_database_url) as database:
            assert in_tables(database, looked_for) == []
        for url in (servers["REDIS_URL"], servers["BROKER_URL"]):
            assert in_redis(url, looked_for) == []
        home = Home.at(Path(_home())).path
        folders = [home / "logs", home / "counters", home / "broker", tmp_path, proxy.folder]
        assert in_files([folder for folder in folders if folder.exists()], looked_for) == []
        assert in_lines(proxy.lines, looked_for) == []
        assert in_lines(lines_of(log), looked_for) == []
        printed = capfd.readouterr()
        # The client of this test says which addresses it asks.
        said = [line for line in (printed.out + printed.err).splitlines() if " httpx: " not in line]
        assert in_lines(said, looked_for) == []


def _home() -> str:
    from django.conf import settings

    return str(settings.NOBURN_HOME)


class TestSearch:
    """That the search finds what is there, wherever it is put."""

    @pytest.mark.parametrize(
        ("table", "statement"),
        [
            (
                "tenants_auditentry",
                "INSERT INTO tenants_auditentry (id, tenant_id, actor, action, object, after, at) "
                "SELECT gen_random_uuid(), id, 'x', 'x', 'x', jsonb_build_object('a', jsonb_build_array("
                "%(word)s::text)), now() FROM tenants_tenant LIMIT 1",
            ),
            ("tenants_customer", "UPDATE tenants_customer SET name = %(word)s"),
            ("tenants_apikey", "UPDATE tenants_apikey SET digest = convert_to(%(word)s || id::text, 'UTF8')"),
            (
                "ledger_entries",
                "INSERT INTO ledger_entries (hold_id, placed_month, revision, tenant_id, kind, placed_at, note, "
                "cost_nano, tokens, requests, counters, deltas) "
                "SELECT gen_random_uuid(), '2026-11-01', 1, id, 'settled', now(), "
                "%(word)s, 0, 0, 0, '{}', '{}' FROM tenants_tenant LIMIT 1",
            ),
        ],
    )
    def test_finds_a_word_in_a_table(
        self, words: Words, plane: Plane, owner_database_url: str, table: str, statement: str
    ) -> None:
        word = words("planted")
        plane.customer()
        plane.account.world.sql(
            "INSERT INTO tenants_customer (id, tenant_id, external_id) VALUES (gen_random_uuid(), %s, %s)",
            plane.account.tenant_id,
            uuid4().hex,
        )
        with psycopg.connect(owner_database_url) as database:
            assert database.execute(statement, {"word": word}).rowcount > 0
            assert f"{table}: {word}" in in_tables(database, [word])
            database.rollback()
            assert in_tables(database, [word]) == []

    def test_finds_a_word_in_redis(self, words: Words, servers: dict[str, str]) -> None:
        word = words("planted")
        url = servers["BROKER_URL"]
        with server_at(url) as server:
            plant: dict[str, Callable[[str], Any]] = {
                "string": lambda key: server.set(key, f"x{word}"),
                "hash": lambda key: server.hset(key, "field", word),
                "list": lambda key: server.rpush(key, json.dumps({"a": word})),
                "set": lambda key: server.sadd(key, word),
                "zset": lambda key: server.zadd(key, {word: 1}),
                "stream": lambda key: server.xadd(key, {"field": word}),
            }
            for kind, put in plant.items():
                put(f"planted-{kind}")
                found = in_redis(url, [word])
                server.delete(f"planted-{kind}")
                assert found == [f"planted-{kind}: {word}"]
            server.set(word, 1)
            assert in_redis(url, [word]) == [f"{word}: {word}"]
            server.delete(word)
        assert in_redis(url, [word]) == []

    def test_finds_a_word_in_a_file_and_in_a_line(self, words: Words, tmp_path: Path) -> None:
        word = words("planted")
        file = tmp_path / "deep" / "outbox.bin"
        file.parent.mkdir()
        file.write_bytes(b"\x00" * ((1 << 20) - 5) + word.encode())
        assert in_files([tmp_path], [word]) == [f"{file}: {word}"]
        assert in_lines(["a", f"b {word}\n"], [word]) == [f"b {word}: {word}"]
