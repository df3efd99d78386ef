"""The TypeScript SDK as it is published: built, packed, and imported from an empty project, as ESM and as CommonJS."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.node import built, install_packed, node, npm, sdk

# Those that need no peer.
ENTRIES = ("", "/context", "/outbox-node", "/testing", "/estimate", "/instrument")
CORE_BYTES_MAX = 80_000
"""What the core may weigh, gzipped, with all that it shares with other entries."""
EDGE = Path(__file__).with_name("edge.mjs")
SECONDS = 300


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty project into which the packed package was installed."""
    place = tmp_path_factory.mktemp("project")
    built()
    npm(["pack", "--ignore-scripts", "--pack-destination", str(place)], sdk())
    (packed,) = place.glob("*.tgz")
    install_packed(packed, place)
    return place


def run(project: Path, name: str, text: str) -> list[str]:
    """Runs a program of the project by the oldest Node, and returns the names that it printed."""
    (project / name).write_text(text)
    done = subprocess.run(
        [str(node(20)), name], cwd=project, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    names: list[str] = json.loads(done.stdout)
    return names


class TestPackage:
    def test_is_what_its_exports_say_it_is(self, project: Path) -> None:
        (packed,) = project.glob("*.tgz")
        bin_ = sdk() / "node_modules" / ".bin"
        around = {**os.environ, "PATH": f"{node(24).parent}{os.pathsep}{os.environ['PATH']}"}
        for command in (
            [str(bin_ / "publint"), "--strict", str(packed)],
            [str(bin_ / "attw"), str(packed), "--profile", "node16"],
        ):
            done = subprocess.run(
                command, cwd=sdk(), env=around, capture_output=True, text=True, check=False, timeout=SECONDS
            )
            assert done.returncode == 0, done.stdout + done.stderr

    def test_has_the_same_in_both_forms(self, project: Path) -> None:
        for entry in ENTRIES:
            name = f"@noburn/sdk{entry}"
            esm = run(
                project,
                "esm.mjs",
                f'import * as found from "{name}"; console.log(JSON.stringify(Object.keys(found)));',
            )
            cjs = run(
                project,
                "cjs.cjs",
                f'const found = require("{name}"); console.log(JSON.stringify(Object.keys(found)));',
            )
            assert sorted(set(esm) - {"default"}) == sorted(set(cjs) - {"default", "__esModule"}), name

    def test_keeps_one_gate_and_one_tree_of_errors_in_a_program_that_holds_both(self, project: Path) -> None:
        told = run(
            project,
            "both.mjs",
            """import { createRequire } from "node:module";
            import * as esm from "@noburn/sdk";
            const cjs = createRequire(import.meta.url)("@noburn/sdk");
            const gate = esm.configure({ apiKey: "nb_test" });
            const error = new cjs.UnboundedError("no bound");
            console.log(JSON.stringify([
              cjs.defaultGate() === gate, error instanceof esm.PriceUnknownError,
              error instanceof esm.BudgetExceededError,
              esm.context({ customer: "acme" }, () => cjs.current().customer) === "acme",
            ].map(String)));
            await gate.close();""",
        )
        assert told == ["true", "true", "false", "true"]

    def test_needs_no_package_and_is_small(self, project: Path) -> None:
        installed = [path.name for path in (project / "node_modules").iterdir() if path.name[0] != "."]
        assert installed == ["@noburn"]
        place = project / "node_modules" / "@noburn" / "sdk" / "dist"
        wanted, seen = ["index.mjs"], set[str]()
        while wanted:
            name = wanted.pop()
            if name in seen:
                continue
            seen.add(name)
            text = (place / name).read_text()
            wanted += [part.split('"')[0] for part in text.split('from "./')[1:]]
            assert 'from "node:' not in text, name
        weight = sum(len(gzip.compress((place / name).read_bytes())) for name in seen)
        assert weight <= CORE_BYTES_MAX, weight

    def test_gates_and_estimates_in_an_edge_runtime(self, project: Path) -> None:
        dist = project / "node_modules" / "@noburn" / "sdk" / "dist"
        done = subprocess.run(
            [str(node(20)), str(EDGE), str(dist), str(sdk())],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {
            "runtime": "string",
            "node": "none",
            "require": "undefined",
            # Without ranks: 14 bytes of text, and the frame.
            "inputTokens": 21,
            "byHand": 1,
            "settled": ["settled", "settled"],
            "refused": "exceeded",
            "closed": True,
        }
