"""Load by wrk, which costs little beside what it measures; its scripts stand in wrk/."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent / "wrk"
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True)
class Load:
    """What wrk saw: requests a second, latency in milliseconds, answers that were no 2xx, and its script's own counts."""

    rate: float
    p50_ms: float
    p99_ms: float
    failed: int
    said: dict[str, int]


def require_wrk() -> None:
    """Exits with what to install if wrk is not there."""
    if shutil.which("wrk") is None:
        raise SystemExit("The benchmarks need wrk. On Debian or Ubuntu: apt-get install wrk")


def wrk(url: str, script: str, *, seconds: int, connections: int, **variables: object) -> Load:
    """Runs one load; `variables` reach the script through the environment, in capitals."""
    env = {**os.environ, **{f"NB_{name.upper()}": str(value) for name, value in variables.items()}}
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        str(SCRIPTS / script),
        url,
    ]
    text = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return Load(
        rate=float(_find(r"Requests/sec:\s+([\d.]+)", text)),
        p50_ms=_milliseconds(_find(r"50%\s+([\d.]+\w+)", text)),
        p99_ms=_milliseconds(_find(r"99%\s+([\d.]+\w+)", text)),
        failed=int(failed.group(1)) if failed else 0,
        said={name: int(value) for name, value in re.findall(r"^said (\w+) (\d+)$", text, re.MULTILINE)},
    )


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"wrk printed no {pattern!r}:\n{text}")
    return found.group(1)


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(\w+)", text).groups()  # type: ignore[union-attr]
    return float(number) * UNITS[unit]
