"""LangChain's models through the proxy, in the environment that the SDK's integrations are tried in."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path

import pytest

from tests.doubles.provider import ProviderDouble
from tests.proxy.programs import printed
from tests.proxy.running import Proxy
from tests.proxy.settling import booked
from tests.sdk.environments import ROOT, python_of
from tests.sdk.plane import Plane
from tests.sdk.test_matrix import cost

pytestmark = pytest.mark.real_db

REQUIREMENTS = ROOT / "tests" / "sdk" / "frameworks" / "requirements.txt"


@pytest.fixture(scope="module")
def python() -> Path:
    return python_of(REQUIREMENTS)


class TestLangChain:
    def test_models_are_answered_refused_and_settled(
        self, python: Path, proxy: Proxy, plane: Plane, double: ProviderDouble, tmp_path: Path
    ) -> None:
        rich, poor = plane.customer(), plane.customer("0.000000001")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "LANGSMITH_TRACING": "false",
            "PROXY_URL": proxy.url,
            "NOBURN_KEY": plane.secret,
            "RICH": rich.name,
            "POOR": poor.name,
        }
        program = [str(python), str(Path(__file__).with_name("langchain_program.py"))]
        told = json.loads(printed(plane, program, environment, tmp_path))
        assert len(told["answered"]) == 6
        assert all(told["answered"].values()), told
        assert set(told["refused"].values()) == {402}, told
        calls = double.ledger()
        assert len(calls) == 6
        assert sum(line["status"] == 402 for line in proxy.accesses(12)) == 6
        assert sum(Decimal(entry["cost_usd"]) for entry in booked(rich, 6)) == sum(map(cost, calls))
