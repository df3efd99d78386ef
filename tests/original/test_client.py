"""The original client itself, from its package, at a running noburn: what its README shows, and LangChain."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from noburn.kit import ids
from tests.doubles.provider import ProviderDouble
from tests.proxy.programs import printed
from tests.sdk.environments import python_of

if TYPE_CHECKING:
    from tests.sdk.plane import Plane

pytestmark = pytest.mark.real_db

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def python() -> Path:
    return python_of(HERE / "requirements.txt")


def run(plane: Plane, python: Path, program: str, double: ProviderDouble, folder: Path) -> dict[str, Any]:
    """What a program prints that runs where the original client is installed, and this project is not."""
    from tenants.models import Project

    (project,) = Project.objects.filter(tenant_id=plane.account.tenant_id)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "NOBURN_API_KEY": plane.secret,
        "NOBURN_PROJECT_ID": ids.encode(ids.PROJECT, project.pk),
        "NOBURN_BASE_URL": plane.url,
        "OPENAI_API_KEY": "k",
        "OPENAI_BASE_URL": double.openai_url,
        "LANGSMITH_TRACING": "false",
        # CrewAI sends nothing anywhere, and keeps what it keeps here.
        "CREWAI_DISABLE_TELEMETRY": "true",
        "CREWAI_STORAGE_DIR": str(folder),
        "OTEL_SDK_DISABLED": "true",
    }
    out = printed(plane, [str(python), "-I", str(HERE / program)], environment, folder)
    # An example may print too.
    told: dict[str, Any] = json.loads(out.splitlines()[-1])
    return told


class TestReadme:
    def test_examples_run_as_written(
        self, python: Path, plane: Plane, double: ProviderDouble, tmp_path: Path
    ) -> None:
        plane.account.budget("month", "$10", scope="project", subject="default", window="month")
        told = run(plane, python, "readme.py", double, tmp_path)
        first = told["quick start"]["decision"]
        assert (first["blocked"], first["budget_cap_usd"], first["spend_usd"]) == (False, 10, 0)
        # Priced by the book, whatever the caller took it for.
        assert told["quotas"]["decision"]["spend_usd"] == 0.00535
        assert told["runs"]["run"]["budget_cap_usd"] == told["runs"]["decision"]["run_cap_usd"] == 0.5
        assert told["runs"]["summary"]["status"] == "completed"
        assert (told["stop"]["stopped"]["status"], told["stop"]["stopped"]["stopped_now"]) == (
            "stopped",
            True,
        )
        later = told["stop"]["later"]
        assert (later["blocked"], later["block_reason"]) == (True, "run_stopped")
        assert told["LangChain"]["answer"]
        assert told["pricing"] > 1000
        assert told["dropped"] == 0
        (call,) = double.ledger()
        assert call["model"] == "gpt-4o-mini"
        usage = call["metered"]
        cost = (Decimal(usage["input_tokens"]) * 15 + Decimal(usage["output_tokens"]) * 60) / 10**8
        # The example of quotas records nothing: its hold stands.
        held = Decimal("0.0055")
        assert Decimal(str(told["spent"])) == Decimal("0.00535") * 2 + held + cost
        assert [row["kind"] for row in plane.account.ledger()] == ["settled"] * 3
        from billing.models import ReportedPayment

        (paid,) = ReportedPayment.objects.filter(tenant_id=plane.account.tenant_id)
        assert (paid.customer, paid.amount_nano, paid.external_id) == ("user_abc123", 49 * 10**9, "in_1")
        assert not plane.account.verify().differences


class TestCrew:
    @pytest.mark.soak
    def test_example_runs_as_written_and_a_run_s_cap_stops_a_crew(
        self, plane: Plane, double: ProviderDouble, tmp_path: Path
    ) -> None:
        told = run(plane, python_of(HERE / "crew" / "requirements.txt"), "crew.py", double, tmp_path)
        assert told["said"]
        assert (told["summary"]["status"], told["summary"]["budget_cap_usd"]) == ("completed", 0.5)
        assert (told["refused"], told["dropped"]) == ("budget_exceeded", 0)
        calls = double.ledger()
        assert calls
        assert {row["kind"] for row in plane.account.ledger()} == {"settled"}
        assert len(plane.account.ledger()) == len(calls)
        assert told["summary"]["spend_usd"] > 0
        assert not plane.account.verify().differences


class TestClient:
    def test_is_held_to_budgets_by_twenty_threads_by_langchain_and_through_a_slow_network(
        self, python: Path, plane: Plane, double: ProviderDouble, tmp_path: Path
    ) -> None:
        account = plane.account
        for name, limit in (("crowd", "$1"), ("poor", "$0.000000001"), ("slow", "$1")):
            account.budget(name, limit)
        told = run(plane, python, "behaviour.py", double, tmp_path)
        assert told == {"passed": 4, "refused": "user_budget_exceeded", "deliveries": 3}
        assert double.ledger() == []
        rows = account.world.sql(
            "SELECT customer, kind, sum(cost_nano), count(*) FROM ledger_entries WHERE tenant_id = %s GROUP BY 1, 2",
            account.tenant_id,
        )
        assert sorted(rows) == [("crowd", "settled", 10**9, 4), ("slow", "settled", 200_000_000, 1)]
        assert account.remaining("slow") == 800_000_000
        assert not account.verify().differences
