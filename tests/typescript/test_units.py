"""The TypeScript SDK alone: sdks/typescript/tests, file by file, and the types of all of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.node import SDK
from tests.typescript.conftest import Ran, read, vitest

FILES = sorted(str(path.relative_to(SDK)) for path in (SDK / "tests").rglob("*.test.ts"))


def run_units(folder: Path, major: int) -> Ran:
    """Runs them by a Node."""
    results = folder / "results.json"
    command, options = vitest(["--project", "unit"], results, major=major)
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    return read(results, done.stdout + done.stderr)


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One run of all of them, by the oldest Node that is supported."""
    return run_units(tmp_path_factory.mktemp("units"), 20)


class TestUnits:
    @pytest.mark.parametrize("file", FILES)
    def test_passes(self, units: Ran, file: str) -> None:
        assert units.passed(file) > 0

    @pytest.mark.soak
    @pytest.mark.parametrize("major", [22, 24])
    def test_passes_on_later_nodes(self, tmp_path: Path, major: int) -> None:
        ran = run_units(tmp_path, major)
        assert all(ran.passed(file) > 0 for file in FILES)
