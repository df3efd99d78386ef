"""Replays the scenarios and writes what came of them into docs/guards.md."""

from __future__ import annotations

from tests.scenarios.replay import DOCUMENT, documented, tables

DOCUMENT.write_text(documented(DOCUMENT.read_text()))
print(tables())
