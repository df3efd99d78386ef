"""schemathesis over the whole document, against a whole noburn: no fault of the server, no undescribed answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noburn.runtime.embedded import ROOT
from tests.api.serving import Caller, Serving, serving
from tests.api.things import made, make_things

SEED = 4711
HOLDS = 80
SETS = 4
EXAMPLES = 3
SOAK_EXAMPLES = 150
POLLS_MAX = 2_000
SECONDS_MAX = 900
SOAK_SECONDS_MAX = 3_600
CALL = {"model": "gpt-4o-mini", "input_tokens": 100, "max_output_tokens": 50}


class Target:
    """A noburn with a tenant that has some of everything, and what schemathesis needs to find it."""

    def __init__(self, running: Serving, path: Path) -> None:
        self.running, self._path = running, path
        tenant = running.manage("provision", "--tenant", "alice", "--budget", "customer:*:10:month", "--json")
        self.secret = running.key(tenant["tenant_id"])
        with Caller(running.url, self.secret) as caller:
            pool = self._make(caller, tenant["budgets"][0]["id"])
        (path / "pool.json").write_text(json.dumps(pool))

    def _make(self, caller: Caller, budget: str) -> dict[str, Any]:
        """What the hooks choose from: ids by prefix, and holds with their authorizations."""
        ids: dict[str, list[str]] = {"bud": [budget]}
        for number in range(SETS):
            for prefix, thing in make_things(caller, f"set{number}").items():
                ids.setdefault(prefix, []).append(thing)
        holds = [_hold(caller, number) for number in range(HOLDS)]
        for _, token in holds[: HOLDS // 4]:
            made(caller, "POST", "/v1/settle", {"authorization": token, "cost_usd": "0.00001"})
        ids["hold"] = [hold for hold, _ in holds[: HOLDS // 4]]
        ids["dec"] = [item["id"] for item in _decisions(caller)]
        keys = made(caller, "GET", "/v1/api-keys")["items"]
        (own,) = [key["id"] for key in keys if key["name"] == "everything"]
        return {"seed": SEED, "ids": ids, "own_key": own, "holds": holds}

    def run(self, *options: str, seconds: int) -> subprocess.CompletedProcess[str]:
        """Runs schemathesis; its words are the answer."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks",
            "NOBURN_SCHEMATHESIS_POOL": str(self._path / "pool.json"),
            "NO_COLOR": "1",
        }
        return subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                "--config-file",
                str(ROOT / "tests" / "api" / "schemathesis.toml"),
                "run",
                f"{self.running.url}/v1/openapi.json",
                "-H",
                f"Authorization: Bearer {self.secret}",
                *options,
            ],
            cwd=self._path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )


def _hold(caller: Caller, number: int) -> tuple[str, str]:
    placed = made(caller, "POST", "/v1/preflight", {**CALL, "subject": {"customer": f"c{number % 5}"}})
    return placed["hold"]["id"], placed["authorization"]


def _decisions(caller: Caller) -> list[Any]:
    """The first decisions of the log, which is written a moment after the calls."""
    for _ in range(POLLS_MAX):
        items: list[Any] = made(caller, "GET", "/v1/decisions")["items"]
        if items:
            return items
    raise AssertionError("no decision is ever logged")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with serving() as running:
        yield Target(running, tmp_path_factory.mktemp("schemathesis"))


def assert_sound(target: Target, done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout[-30_000:] + done.stderr[-2_000:]
    assert target.running.errors() == []


class TestDocument:
    def test_is_kept_by_whatever_is_sent(self, target: Target) -> None:
        # The phase "coverage", every bound of every field of every operation, takes minutes: it is the soak's.
        done = target.run(
            "--phases", "examples,fuzzing", "--max-examples", str(EXAMPLES), seconds=SECONDS_MAX
        )
        assert_sound(target, done)

    @pytest.mark.soak
    def test_is_kept_by_much_more(self, target: Target) -> None:
        done = target.run("--max-examples", str(SOAK_EXAMPLES), seconds=SOAK_SECONDS_MAX)
        assert_sound(target, done)
