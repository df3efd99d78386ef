"""The documents as they are served: read and rendered once a process, with links that lead to each other's pages."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from django.conf import settings
from django.urls import reverse

from noburn.docs.contents import GROUPS, MORE, OUTSIDE, slug_of
from noburn.docs.markdown import Section, render

ROOT: Final[Path] = settings.BASE_DIR
DOCUMENTS_MAX: Final = 1_000
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_SAID_MAX: Final = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One page. `below` are the slugs of documents in a directory of its name."""

    slug: str
    title: str
    html: str
    sections: tuple[Section, ...]
    said: str
    below: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """Where it is served."""
        return address_of(self.slug)


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Some documents of the index under a heading."""

    title: str
    documents: tuple[Document, ...]


def address_of(slug: str) -> str:
    """The address of a document's page."""
    return reverse("docs:page", kwargs={"slug": slug})


@cache
def library() -> dict[str, Document]:
    """Every document by its slug."""
    paths = {slug: path for path in _paths() if (slug := slug_of(path)) is not None}
    found = {slug: _read(slug, path, frozenset(paths)) for slug, path in paths.items()}
    for directory in {slug.partition("/")[0] for slug in paths if "/" in slug} - paths.keys():
        found[directory] = Document(
            slug=directory, title=directory.capitalize(), html="", sections=(), said=""
        )
    return {
        slug: Document(
            slug=slug,
            title=document.title,
            html=document.html,
            sections=document.sections,
            said=document.said,
            below=tuple(sorted(name for name in found if name.startswith(f"{slug}/"))),
        )
        for slug, document in found.items()
    }


@cache
def groups() -> tuple[Group, ...]:
    """The index: every document that lies in no directory of others, under its heading."""
    every = library()
    listed = {slug for _, slugs in GROUPS for slug in slugs}
    rest = tuple(sorted(slug for slug in every if "/" not in slug and slug not in listed))
    return tuple(
        Group(title=title, documents=documents)
        for title, slugs in (*GROUPS, (MORE, rest))
        if (documents := tuple(every[slug] for slug in slugs if slug in every))
    )


def _paths() -> list[str]:
    inside = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    if len(inside) > DOCUMENTS_MAX:
        raise ValueError(f"docs/ holds more than {DOCUMENTS_MAX} documents")
    return inside + [path for path in OUTSIDE if (ROOT / path).is_file()]


def _read(slug: str, path: str, slugs: frozenset[str]) -> Document:
    rendered = render((ROOT / path).read_text(encoding="utf-8"), link=_linker(path, slugs))
    first = rendered.sections[0].text
    said = first if len(first) <= _SAID_MAX else first[:_SAID_MAX].rsplit(" ", 1)[0] + " …"
    return Document(
        slug=slug, title=rendered.title, html=rendered.html, sections=rendered.sections, said=said
    )


def _linker(path: str, slugs: frozenset[str]) -> Callable[[str], str | None]:
    """Turns the links of the document at `path`, which are relative to it, into addresses."""

    def link(target: str) -> str | None:
        if target.startswith("#") or _SCHEME.match(target):
            return target
        name, _, anchor = target.partition("#")
        place = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
        if place == "docs/openapi.json":
            return reverse("docs:reference")
        slug = slug_of(place)
        if slug is None and place.startswith("docs/") and "." not in place:
            # A directory: its README, or the list of what is in it.
            slug = place.removeprefix("docs/")
            known = slug in slugs or any(other.startswith(f"{slug}/") for other in slugs)
            slug = slug if known else None
        elif slug not in slugs:
            slug = None
        if slug is None:
            return None
        return address_of(slug) + (f"#{anchor}" if anchor else "")

    return link
