"""LiteLLM, LangChain and LangGraph, in an environment of their own, against a real noburn and the double.

Each file under frameworks/ runs as one process of pytest, so that their slow imports are paid once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.serving import serving
from tests.doubles.provider import ProviderDouble
from tests.sdk.environments import ROOT, run_tests

HERE = Path(__file__).with_name("frameworks")
REQUIREMENTS = HERE / "requirements.txt"


@pytest.fixture(scope="module")
def reached() -> Iterator[dict[str, str]]:
    """A noburn and a double, as the environment is told of them."""
    with serving() as running, ProviderDouble() as double:
        tenant = running.manage("provision", "--tenant", "alice", "--json")
        yield {
            "NOBURN_TEST_URL": running.url,
            "NOBURN_TEST_KEY": running.key(tenant["tenant_id"]),
            "NOBURN_TEST_DOUBLE_PORT": str(double.port),
            # Without it LiteLLM fetches its prices from the internet.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MODE": "PRODUCTION",
            "LANGSMITH_TRACING": "false",
        }


class TestFrameworks:
    @pytest.mark.parametrize(
        ("file", "least"),
        [
            ("matrix_litellm.py", 80),
            ("matrix_langchain.py", 60),
            ("matrix_langgraph.py", 16),
            ("readme.py", 3),
        ],
    )
    def test_passes_its_own_tests(
        self, reached: dict[str, str], tmp_path: Path, file: str, least: int
    ) -> None:
        passed, printed = run_tests(REQUIREMENTS, [HERE / file], tmp_path / "results.xml", reached)
        assert passed >= least, printed


class TestWithoutFrameworks:
    def test_imports_and_names_what_is_missing(self) -> None:
        text = (
            "import sys\n"
            "gone = ('litellm', 'langchain', 'langchain_core', 'langgraph', 'openai', 'anthropic')\n"
            "class Gone:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name.partition('.')[0] in gone:\n"
            "            raise ModuleNotFoundError(name)\n"
            "sys.meta_path.insert(0, Gone())\n"
            "import noburn_sdk\n"
            "import noburn_sdk.integrations.registry\n"
            "assert not set(gone) & {name.partition('.')[0] for name in sys.modules}\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", text],
            env={**os.environ, "PYTHONPATH": str(ROOT / "sdks/python/src")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
