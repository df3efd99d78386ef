"""The pages before the dashboard, as a browser and as a program ask for them."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.test import Client

from noburn.kit.problems import REGISTRY


@pytest.mark.django_db
class TestHome:
    def test_says_what_to_do_next_with_this_installation_s_address(self) -> None:
        page = Client().get("/")
        assert page.status_code == 200
        assert f"{settings.BASE_URL}/v1/preflight" in page.text
        assert "manage.py provision" in page.text


class TestProblemPage:
    @pytest.mark.parametrize("slug", sorted(REGISTRY))
    def test_stands_where_the_type_of_each_problem_points(self, slug: str) -> None:
        page = Client().get(f"/docs/problems/{slug}")
        assert page.status_code == 200
        assert REGISTRY[slug].title in page.text
        assert "What to do" in page.text
        assert "**" not in page.text
        assert f"HTTP {REGISTRY[slug].status}" in page.text

    def test_is_not_there_for_a_slug_that_no_problem_has(self) -> None:
        assert Client().get("/docs/problems/..%2Fescrow").status_code == 404
        assert Client().get("/docs/problems/nonsense").status_code == 404


class TestNotFound:
    def test_answers_a_person_with_a_page(self) -> None:
        answer = Client().get("/nothing")
        assert answer.status_code == 404
        assert answer["Content-Type"].startswith("text/html")

    def test_answers_a_program_with_a_problem(self) -> None:
        answer = Client().get("/v1/nothing")
        assert answer.status_code == 404
        assert answer["Content-Type"] == "application/problem+json"
        assert answer.json()["type"].endswith("/docs/problems/not-found")
