"""The TypeScript SDK against a real noburn and the provider double: sdks/typescript/live, file by file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.node import SDK

if TYPE_CHECKING:
    from pathlib import Path

    from tests.doubles.provider import ProviderDouble
    from tests.typescript.conftest import Ran
    from tests.typescript.control import Control

pytestmark = pytest.mark.real_db

FILES = sorted(str(path.relative_to(SDK)) for path in (SDK / "live").rglob("*.test.ts"))


class TestLive:
    @pytest.mark.parametrize("file", FILES)
    def test_passes(self, live: Ran, file: str) -> None:
        assert live.passed(file) > 0

    @pytest.mark.soak
    @pytest.mark.parametrize("major", [22, 24])
    def test_passes_on_later_nodes(
        self, control: Control, running_double: ProviderDouble, tmp_path: Path, major: int
    ) -> None:
        from tests.typescript.conftest import run_live

        ran = run_live(control, running_double, tmp_path, major=major)
        assert all(ran.passed(file) > 0 for file in FILES)
