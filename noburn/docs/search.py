"""Search over titles, headings and texts of the documents and over the API's operations."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Final

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from noburn.docs.library import library
from noburn.docs.reference import topics

QUERY_CHARS_MAX: Final = 100
WORDS_MAX: Final = 8
FOUND_MAX: Final = 40
_AROUND_CHARS: Final = 90


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Something that may be found: a section of a document, or an operation."""

    page: str
    heading: str
    text: str
    address: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """A place that holds every word, and the text around the first of them with the words marked."""

    place: Place
    excerpt: SafeString


def find(query: str) -> list[Hit]:
    """Returns the places that hold every word of the query, those with words in title and heading first."""
    words = query[:QUERY_CHARS_MAX].lower().split()[:WORDS_MAX]
    if not words:
        return []
    scored = []
    for number, (place, title, heading, text) in enumerate(_index()):
        points = 0
        for word in words:
            here = 20 * (word in title) + 10 * (word in heading) + min(5, text.count(word))
            if not here:
                break
            points += here
        else:
            scored.append((-points, number, place))
    scored.sort(key=lambda found: found[:2])
    marks = re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))), re.IGNORECASE)
    return [Hit(place=place, excerpt=_excerpt(place.text, marks)) for _, _, place in scored[:FOUND_MAX]]


def _excerpt(text: str, marks: re.Pattern[str]) -> SafeString:
    first = marks.search(text)
    start = max(0, first.start() - _AROUND_CHARS) if first else 0
    part = text[start : start + 3 * _AROUND_CHARS]
    made, done = [], 0
    for match in marks.finditer(part):
        made += [escape(part[done : match.start()]), "<mark>", escape(match.group()), "</mark>"]
        done = match.end()
    made.append(escape(part[done:]))
    before, after = "… " if start else "", " …" if start + len(part) < len(text) else ""
    # Every piece that is not a tag of ours was escaped above.
    return mark_safe(before + "".join(made) + after)  # noqa: S308


@cache
def _index() -> tuple[tuple[Place, str, str, str], ...]:
    places = [
        Place(
            page=document.title,
            heading=section.heading,
            text=section.text,
            address=document.address + (f"#{section.anchor}" if section.anchor else ""),
        )
        for document in library().values()
        for section in document.sections
    ]
    places += [
        Place(
            page=f"API: {topic.name}",
            heading=f"{operation.method} {operation.path}",
            text=f"{operation.summary}. {operation.description}",
            address=operation.address,
        )
        for topic in topics()
        for operation in topic.operations
    ]
    return tuple((place, place.page.lower(), place.heading.lower(), place.text.lower()) for place in places)
