"""The documentation at /docs: every document, its links, its safety, search, and the API reference."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.test import Client

from noburn.docs.library import groups, library
from noburn.docs.markdown import render
from noburn.docs.reference import topics
from noburn.docs.search import QUERY_CHARS_MAX, find
from noburn.openapi.document import document as openapi

HREF = re.compile(r'href="([^"]*)"')


def page(address: str) -> str:
    answer = Client().get(address)
    assert answer.status_code == 200, (address, answer.status_code)
    return answer.text


class TestIndex:
    def test_leads_to_every_document(self) -> None:
        text = page("/docs/")
        listed = {document.slug for group in groups() for document in group.documents}
        top = {slug for slug in library() if "/" not in slug}
        assert top <= listed
        assert [slug for slug in top if f'href="/docs/{slug}"' not in text] == []
        below = {name for document in library().values() for name in document.below}
        assert set(library()) <= listed | below


class TestPage:
    def test_shows_each_document_under_its_title(self) -> None:
        for slug, document in library().items():
            text = page(f"/docs/{slug}")
            assert f"<title>{document.title}" in unescape(text) or slug.startswith("problems/")
            assert len(re.findall("<h1", text)) == 1, slug

    def test_has_no_link_within_the_documents_that_leads_nowhere(self) -> None:
        texts = {slug: page(f"/docs/{slug}") for slug in library()}
        wrong = []
        for slug, text in texts.items():
            for address in map(unescape, HREF.findall(text)):
                path, _, anchor = address.partition("#")
                target = path.removeprefix("/docs/") if path else slug
                if (path.startswith("/docs/") and target in texts) or not path:
                    if anchor and anchor != "content" and f'id="{anchor}"' not in texts[target]:
                        wrong.append((slug, address))
                elif (path.startswith("/docs/") and Client().get(path).status_code != 200) or not re.match(
                    r"/|https?://", address
                ):
                    wrong.append((slug, address))
        assert wrong == []

    def test_lists_what_a_directory_without_a_page_of_its_own_holds(self) -> None:
        assert 'href="/docs/problems/not-found"' in page("/docs/problems")

    @pytest.mark.parametrize(
        "slug", ["nothing", "../noburn/settings", "problems/nonsense", "..%2Fescrow", "openapi.json"]
    )
    def test_is_not_there_for_what_is_no_document(self, slug: str) -> None:
        assert Client().get(f"/docs/{slug}").status_code == 404


class TestMarkdown:
    def test_passes_no_html_and_no_link_to_a_script(self) -> None:
        text = "# T\n\n<script>alert(1)</script> <b onclick=x>y</b>\n\n[a](javascript:alert(1)) ![b](data:text/html,c)\n"
        made = render(text, link=lambda target: target)
        assert "<script" not in made.html
        assert "<b " not in made.html
        assert "javascript:" not in re.sub(r"<p>.*?</p>", "", made.html)
        assert 'href="javascript' not in made.html
        assert "<img" not in made.html

    def test_leaves_the_text_of_a_link_that_leads_out_of_the_documents(self) -> None:
        made = render("# T\n\n[code](../a.py) and [page](b.md)\n", link={"b.md": "/docs/b"}.get)
        assert made.html == '<p>code and <a href="/docs/b">page</a></p>\n'

    def test_names_two_headings_of_the_same_words_apart(self) -> None:
        made = render("# T\n\n## A `b` c\n\none\n\n## A `b` c\n\ntwo\n", link=lambda target: target)
        assert [(s.anchor, s.text) for s in made.sections] == [("", ""), ("a-b-c", "one"), ("a-b-c-1", "two")]

    def test_makes_snippets_that_can_be_copied_as_they_stand(self) -> None:
        made = render('# T\n\n```python\na < "b"\n```\n', link=lambda target: target)
        assert 'data-copy="snippet-0" hidden' in made.html
        assert '<code id="snippet-0" class="language-python">a &lt; &quot;b&quot;\n</code>' in made.html


class TestSearch:
    def test_finds_titles_before_texts(self) -> None:
        hits = find("wallets")
        assert hits[0].place.heading == "Wallets" or "wallet" in hits[0].place.page.lower()
        assert len(hits) > 3

    def test_wants_every_word_and_marks_them(self) -> None:
        hits = find("burn order credit")
        assert hits
        assert all(
            word in f"{hit.place.page} {hit.place.heading} {hit.place.text}".lower()
            for hit in hits
            for word in ("burn", "order", "credit")
        )
        assert any("<mark>" in hit.excerpt for hit in hits)

    def test_finds_operations(self) -> None:
        assert any(hit.place.heading == "POST /v1/budgets" for hit in find("/v1/budgets create"))

    def test_shows_what_was_asked_without_believing_it(self) -> None:
        text = page("/docs/search?q=%3Cscript%3Ealert(1)%3C/script%3E%00")
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)" in text

    def test_bounds_what_it_is_asked(self) -> None:
        assert find("x" * 10_000) == []
        assert f'maxlength="{QUERY_CHARS_MAX}"' in page("/docs/search")
        assert page("/docs/search?q=" + "wallet%20" * 500)


class TestReference:
    def test_has_every_operation_of_the_document(self) -> None:
        import json

        told = json.loads(openapi()[0])
        wanted = {
            (method.upper(), path)
            for path, methods in told["paths"].items()
            for method in methods
            if method in ("get", "post", "put", "patch", "delete")
        }
        shown = {(one.method, one.path) for topic in topics() for one in topic.operations}
        assert shown == wanted

    def test_shows_parameters_bodies_examples_and_failures(self) -> None:
        text = unescape(page("/docs/reference/budgets"))
        assert 'id="createBudget"' in text
        assert '"limit_usd": "10"' in text
        assert "Idempotency-Key" in text
        assert 'href="/docs/problems/idempotency-conflict"' in text
        assert "items[].limit_usd" in text

    def test_lists_topics_and_answers_404_for_none(self) -> None:
        text = page("/docs/reference")
        assert all(f"/docs/reference/{topic.slug}" in text for topic in topics())
        assert Client().get("/docs/reference/nothing").status_code == 404

    def test_every_topic_page_is_made(self) -> None:
        for topic in topics():
            text = page(f"/docs/reference/{topic.slug}")
            assert text.count("<section") == len(topic.operations)
