"""Environments of their own for packages that cannot live beside those of the tests.

Each is made once from a file of pinned requirements with hashes, and kept by what that file says.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
KEPT = Path(sys.prefix) / "noburn-environments"
MAKE_SECONDS = 900
RUN_SECONDS = 900


def python_of(requirements: Path) -> Path:
    """Returns the interpreter of the environment that a file describes; makes it where it is not there yet."""
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:16]
    place = KEPT / f"{requirements.stem}-{digest}"
    python, done = place / "bin" / "python", place / ".done"
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / f"{place.name}.lock").open("w") as lock:
        # Test processes run side by side, and one of them makes it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _run([sys.executable, "-m", "venv", "--clear", str(place)])
            _install(python, requirements)
            done.touch()
    return python


def _install(python: Path, requirements: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    listed = ["--require-hashes", "-r", str(requirements)]
    try:
        _run([str(uv), "pip", "install", "-q", "--python", str(python), *listed])
    except (OSError, subprocess.CalledProcessError):
        # As `make setup` does: an index that only pip is told of.
        _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *listed])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, timeout=MAKE_SECONDS)


def run_tests(
    requirements: Path, files: list[Path], results: Path, environment: Mapping[str, str]
) -> tuple[int, str]:
    """Runs pytest over files of tests in an environment: how many passed, and what it printed.

    Raises AssertionError unless all of them passed, none skipped.
    """
    named = [str(file) for file in files]
    done = subprocess.run(
        [
            *(str(python_of(requirements)), "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(ROOT)),
            *("--confcutdir", str(files[0].parent), "-p", "no:cacheprovider", "--junitxml", str(results)),
            *("--strict-markers", *named),
        ],
        cwd=ROOT,
        env={**os.environ, **environment, "PYTHONPATH": f"{ROOT}:{ROOT / 'sdks/python/src'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_SECONDS,
    )
    printed = done.stdout[-20_000:] + done.stderr[-4_000:]
    assert done.returncode == 0, printed
    (suite,) = ElementTree.parse(results).getroot().iter("testsuite")
    count = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    assert count["failures"] == count["errors"] == count["skipped"] == 0, printed
    return count["tests"], printed
