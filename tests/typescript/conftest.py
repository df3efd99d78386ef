"""One gateway and one provider double for all tests of the TypeScript SDK in this process, and Node.

Django's applications are loaded after this file, so it imports what needs them late.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.doubles.provider import ProviderDouble
from tests.sdk.conftest import running_double as running_double
from tests.sdk.conftest import served as served
from tests.support.node import node, sdk

if TYPE_CHECKING:
    from tests.sdk.plane import Served
    from tests.support.world import World
    from tests.typescript.control import Control

SECONDS = 900


@dataclass(frozen=True)
class Ran:
    """What came of a run of vitest, by file: its tests, and what failed."""

    files: Mapping[str, dict[str, Any]]
    printed: str

    def passed(self, file: str) -> int:
        """How many tests of a file passed. Raises AssertionError unless all of them did, none skipped."""
        found = self.files.get(file)
        assert found is not None, f"{file} did not run: {self.printed}"
        told = [
            f"{one['fullName']}: {one['status']}\n" + "\n".join(one.get("failureMessages") or ())
            for one in found["assertionResults"]
            if one["status"] != "passed"
        ]
        assert found["status"] == "passed", "\n".join([found.get("message") or "", *told, self.printed])
        assert told == []
        return len(found["assertionResults"])


def vitest(
    arguments: list[str], results: Path, *, major: int = 20, environment: Mapping[str, str] | None = None
) -> tuple[list[str], dict[str, Any]]:
    """The command that runs vitest in the SDK's folder by a Node, and how to run it."""
    folder, program = sdk(), node(major)
    command = [
        *(str(program), str(folder / "node_modules" / "vitest" / "vitest.mjs"), "run", *arguments),
        *("--reporter=default", "--reporter=json", f"--outputFile.json={results}"),
    ]
    # Nothing of the shell's own: a key or an address there would lead out of the test.
    around = {
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(results.parent),
        "TMPDIR": str(results.parent),
        "CI": "1",
        "NO_COLOR": "1",
        **(environment or {}),
    }
    return command, {"cwd": folder, "env": around, "timeout": SECONDS}


def read(results: Path, printed: str) -> Ran:
    """Reads what vitest wrote."""
    assert results.exists(), printed
    told = json.loads(results.read_text())
    files = {str(Path(one["name"]).relative_to(sdk())): one for one in told["testResults"]}
    return Ran(files, printed[-20_000:])


@pytest.fixture(scope="session")
def control(_world: World, served: Served) -> Iterator[Control]:
    """A tenant of its own at the running gateway, and the control channel beside it."""
    from tests.sdk.plane import Plane
    from tests.typescript.control import Control

    _world.recover()
    with Control(Plane(served.url, _world.account("alice"))) as found:
        yield found


def live_environment(control: Control, double: ProviderDouble) -> dict[str, str]:
    """Where the live tests find everything."""
    return {
        "NOBURN_BASE_URL": control.plane.url,
        "NOBURN_API_KEY": control.plane.secret,
        "CONTROL_URL": control.url,
        "DOUBLE_URL": double.url,
    }


def run_live(
    control: Control, double: ProviderDouble, folder: Path, *, major: int = 20, only: str = "live"
) -> Ran:
    """Runs the live tests against them, file by file: they share the double."""
    results = folder / "results.json"
    command, options = vitest(
        ["--project", "live", "--no-file-parallelism", only],
        results,
        major=major,
        environment=live_environment(control, double),
    )
    done = control.beside(command, **options)
    return read(results, done.stdout + done.stderr)


@pytest.fixture(scope="session")
def live(control: Control, running_double: ProviderDouble, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One run of all live tests."""
    return run_live(control, running_double, tmp_path_factory.mktemp("live"))
