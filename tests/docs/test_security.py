"""SECURITY.md names, for each of the ten risks, tests that are in the tree."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)::(\w+)`")


def is_there(path: str, class_: str, test: str) -> bool:
    """Whether the file has the class, and the class the test. Nothing is imported."""
    file = ROOT / path
    return file.exists() and any(
        isinstance(node, ast.ClassDef)
        and node.name == class_
        and any(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name == test for n in node.body)
        for node in ast.parse(file.read_text()).body
    )


def rows() -> dict[str, str]:
    text = (ROOT / "SECURITY.md").read_text()
    return dict(re.findall(r"^\| (API\d+) (.+) \|$", text, re.MULTILINE))


class TestOwaspTable:
    def test_has_all_ten_risks_each_with_a_test(self) -> None:
        assert list(rows()) == [f"API{number}" for number in range(1, 11)]
        assert [risk for risk, row in rows().items() if not NAMED.search(row)] == []

    def test_names_no_test_in_a_form_that_is_not_looked_up(self) -> None:
        assert [row for row in rows().values() if row.count("::") != 2 * len(NAMED.findall(row))] == []

    def test_names_tests_that_exist(self) -> None:
        text = (ROOT / "SECURITY.md").read_text()
        assert ["::".join(name) for name in NAMED.findall(text) if not is_there(*name)] == []

    def test_would_notice_one_that_does_not(self) -> None:
        here = "tests/docs/test_security.py"
        assert is_there(here, "TestOwaspTable", "test_names_tests_that_exist")
        assert not is_there(here, "TestOwaspTable", "test_of_nothing")
        assert not is_there(here, "TestNothing", "test_names_tests_that_exist")
        assert not is_there("tests/docs/nothing.py", "TestOwaspTable", "test_names_tests_that_exist")
