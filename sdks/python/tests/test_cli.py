"""The command line, against a server that answers by a script."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from noburn_sdk.cli import main

DECISION: dict[str, Any] = {
    "id": "dec_1",
    "decided_at": "2026-11-22T10:00:00Z",
    "decision": "deny",
    "reason": "budget_exceeded",
    "model": "gpt-4o-mini",
    "customer": "acme",
    "user": "",
    "run": "",
}
BUDGET = {"id": "bud_1", "name": "customer acme: 10 USD", "action": "block"}


@pytest.fixture
def run(server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command; its exit status and what it printed."""
    monkeypatch.setenv("NOBURN_API_KEY", "nb_live_test")
    monkeypatch.setenv("NOBURN_BASE_URL", server.url)

    def ran(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        said = capsys.readouterr()
        return status, said.out, said.err

    return ran


class TestCommands:
    def test_whoami(self, run: Any, server: Any) -> None:
        server.answers({"id": "ten_1", "name": "Acme", "settings": {}})
        status, out, _ = run("whoami")
        assert status == 0
        assert "Acme" in out
        assert server.seen[0].headers["authorization"] == "Bearer nb_live_test"

    def test_budgets_reads_every_page(self, run: Any, server: Any) -> None:
        server.answers({"items": [BUDGET], "next_cursor": "c2"}).answers(
            {"items": [BUDGET], "next_cursor": None}
        )
        status, out, _ = run("budgets", "--scope", "customer", "--json")
        assert (status, [json.loads(line) for line in out.splitlines()]) == (0, [BUDGET, BUDGET])
        assert "scope=customer" in server.seen[0].path
        assert "cursor=c2" in server.seen[1].path

    def test_remaining(self, run: Any, server: Any) -> None:
        budget = {
            "id": "bud_1",
            "scope": "customer",
            "subject": "acme",
            "limit_usd": "10",
            "remaining_usd": "9.5",
        }
        server.answers({"budgets": [budget]})
        status, out, _ = run("remaining", "--customer", "acme")
        assert (status, out) == (0, "bud_1  customer acme: 9.5 of 10 usd left\n")

    def test_tail_shows_what_there_is(self, run: Any, server: Any) -> None:
        server.answers({"items": [DECISION], "next_cursor": None})
        status, out, _ = run("tail", "--once", "--decision", "deny")
        assert (status, out) == (
            0,
            "2026-11-22T10:00:00Z  deny budget_exceeded  gpt-4o-mini  customer=acme\n",
        )

    def test_tail_follows_and_ends_when_told(
        self, run: Any, server: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        later = {**DECISION, "id": "dec_2"}
        server.answers({"items": [DECISION], "next_cursor": None})
        server.answers({"items": [later], "next_cursor": None})
        pauses = iter([None])

        def pause(seconds: float) -> None:
            if next(pauses, "no more") is not None:
                raise KeyboardInterrupt

        monkeypatch.setattr("noburn_sdk.cli.time.sleep", pause)
        status, out, _ = run("tail", "--json")
        assert (status, [json.loads(line)["id"] for line in out.splitlines()]) == (130, ["dec_1", "dec_2"])
        assert "after=dec_1" in server.seen[1].path

    def test_estimate_sends_nothing(self, run: Any, server: Any, tmp_path: Path) -> None:
        file = tmp_path / "body.json"
        file.write_text(json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}))
        status, out, _ = run("estimate", str(file), "--json")
        found = json.loads(out)
        assert (status, found["input_tokens"], found["injects_cap"]) == (0, 8, True)
        assert run("estimate", str(file))[0] == 0
        assert server.seen == []


class TestFailures:
    def test_are_named(self, run: Any, server: Any, tmp_path: Path) -> None:
        server.fails(403, "forbidden")
        status, out, err = run("whoami")
        assert (status, out) == (1, "")
        assert "forbidden" in err
        file = tmp_path / "body.json"
        file.write_text("{")
        assert "is not JSON" in run("estimate", str(file))[2]
        assert "No such file" in run("estimate", str(tmp_path / "none.json"))[2]

    def test_need_a_key(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.delenv("NOBURN_API_KEY", raising=False)
        assert main(["whoami"]) == 1
        assert "NOBURN_API_KEY" in capsys.readouterr().err
