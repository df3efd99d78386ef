"""Node's clients through the proxy: openai, @anthropic-ai/sdk and the AI SDK, with another base URL."""

from __future__ import annotations

import json
import os
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.provider import ProviderDouble
from tests.proxy.programs import printed
from tests.proxy.running import Proxy
from tests.proxy.settling import booked
from tests.sdk.plane import Plane
from tests.sdk.test_matrix import cost
from tests.support.node import node, packages

pytestmark = pytest.mark.real_db

HERE = Path(__file__).with_name("node")


@pytest.fixture(scope="module")
def node_clients() -> tuple[Path, Path]:
    return node(24), packages(HERE)


class TestNode:
    def test_clients_are_answered_refused_and_settled(
        self, node_clients: tuple[Path, Path], proxy: Proxy, plane: Plane, double: ProviderDouble
    ) -> None:
        program_node, place = node_clients
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
        program = [str(program_node), str(place / "clients.mjs")]
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
