from __future__ import annotations

import json
from pathlib import Path

import pytest

from noburn.kit import problems
from noburn.kit.problems import REGISTRY, FieldError, Invalid, ProblemError, problem, to_bytes

PAGES = Path(__file__).parents[2] / "docs" / "problems"


class TestRegistry:
    def test_has_a_page_for_each_slug_and_no_other(self) -> None:
        assert {page.stem for page in PAGES.glob("*.md")} == set(REGISTRY)

    @pytest.mark.parametrize("slug", sorted(REGISTRY))
    def test_page_names_slug_title_status_and_remedy(self, slug: str) -> None:
        text = (PAGES / f"{slug}.md").read_text()
        kind = REGISTRY[slug]
        assert text.startswith(f"# {kind.title}\n")
        assert f"`{slug}`, HTTP {kind.status}." in text
        assert "**What to do.**" in text

    def test_holds_failures_alone(self) -> None:
        assert all(400 <= kind.status < 600 for kind in REGISTRY.values())


class TestToBytes:
    def test_spells_every_member(self) -> None:
        found = problem(
            "invalid-request", "Two fields are wrong.", [FieldError("n", "must be positive")], hint=1
        )
        assert json.loads(to_bytes(found, "r1", base_url="https://noburn.test")) == {
            "type": "https://noburn.test/docs/problems/invalid-request",
            "title": "The request is not valid",
            "status": 400,
            "detail": "Two fields are wrong.",
            "instance": "urn:request:r1",
            "errors": [{"field": "n", "message": "must be positive"}],
            "hint": 1,
        }

    def test_leaves_out_errors_when_there_are_none(self) -> None:
        assert "errors" not in json.loads(to_bytes(problem("not-found", "No."), "r1"))

    def test_never_lets_extra_members_replace_standard_ones(self) -> None:
        body = json.loads(to_bytes(problems.Problem("not-found", "T", 404, "D", (), {"status": 200}), "r1"))
        assert body["status"] == 404

    def test_survives_text_that_is_not_valid_unicode(self) -> None:
        json.loads(to_bytes(problem("not-found", "a\ud800b"), "r1"))


class TestProblem:
    def test_refuses_an_unregistered_slug(self) -> None:
        with pytest.raises(KeyError):
            problem("made-up", "…")

    def test_travels_in_an_exception(self) -> None:
        with pytest.raises(ProblemError, match="not-found: gone"):
            raise ProblemError(problem("not-found", "gone"))


class TestInvalid:
    def test_names_every_error_at_once(self) -> None:
        found = Invalid([FieldError("a", "is missing"), FieldError("b", "is negative")])
        assert str(found) == "a: is missing; b: is negative"
