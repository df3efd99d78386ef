"""Other versions of the providers' clients, in environments of their own that are made once a machine."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from noburn.runtime.embedded import ROOT
from tests.doubles.provider import ProviderDouble

HERE = Path(__file__).parent / "versions"
SECONDS = 300


def environment(name: str) -> Path:
    """Returns the Python of the environment that a list of requirements names; makes it the first time."""
    wanted = (HERE / f"{name}.txt").read_bytes()
    mark = hashlib.sha256(wanted + sys.version.encode()).hexdigest()[:12]
    cache = ROOT / ".venv" / "versions"
    cache.mkdir(exist_ok=True)
    home = cache / f"{name}-{mark}"
    uv = Path(sys.executable).with_name("uv")
    with (cache / f"{name}.lock").open("w") as lock:
        # Two processes of one run may come at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "ready").exists():
            commands: tuple[list[str | Path], ...] = (
                [uv, "venv", "-q", "--clear", "--python", sys.executable, home],
                [uv, "pip", "install", "-q", "--python", home / "bin" / "python", "-r", HERE / f"{name}.txt"],
            )
            for command in commands:
                done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
                assert done.returncode == 0, done.stderr
            (home / "ready").touch()
    return home / "bin" / "python"


@pytest.mark.parametrize(
    ("name", "version", "modules"), [("openai-2", "2.54.0", ["httpx"]), ("here", "3.", ["httpx", "httpx2"])]
)
def test_gates_this_version(double: ProviderDouble, name: str, version: str, modules: list[str]) -> None:
    python = Path(sys.executable) if name == "here" else environment(name)
    done = subprocess.run(
        [python, HERE / "program.py", double.openai_url],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        env={**os.environ, "PYTHONPATH": str(ROOT / "sdks" / "python" / "src"), "PYTHONWARNINGS": "error"},
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["version"].startswith(version)
    assert told["modules"] == modules
    assert told["refused"] == [["BudgetExceededError", "True"]] * 4
    calls = double.ledger()
    assert len(calls) == len(told["settled"]) == 18
    assert {state for _, state, _ in told["settled"]} == {"settled"}
    billed = sorted(
        (call["model"], call["metered"]["input_tokens"], call["metered"]["output_tokens"]) for call in calls
    )
    booked = sorted(
        (model, used["input_tokens"], used["output_tokens"]) for model, _, used in told["settled"]
    )
    assert booked == billed
