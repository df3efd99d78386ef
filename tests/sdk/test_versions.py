"""Other versions of the providers' clients, in environments of their own that are made once a machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from noburn.runtime.embedded import ROOT
from tests.doubles.provider import ProviderDouble
from tests.sdk.environments import python_of

HERE = Path(__file__).parent / "versions"
SECONDS = 300


@pytest.mark.parametrize(
    ("name", "version", "modules"), [("openai-2", "2.54.0", ["httpx"]), ("here", "3.", ["httpx", "httpx2"])]
)
def test_gates_this_version(double: ProviderDouble, name: str, version: str, modules: list[str]) -> None:
    python = Path(sys.executable) if name == "here" else python_of(HERE / f"{name}.txt")
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
