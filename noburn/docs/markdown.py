"""Turns Markdown into HTML that may stand in a page: no HTML of the source passes, and headings can be linked to."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict

_ANCHOR_DROPS: Final = re.compile(r"[^\w\- ]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """What stands under one heading, as plain text. `anchor` is empty before the first heading below the title."""

    heading: str
    anchor: str
    level: int
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """A document: its title, the HTML of what follows it, and its sections in their order."""

    title: str
    html: str
    sections: tuple[Section, ...]


def anchor_of(heading: str) -> str:
    """The name by which a heading is linked to, as forges make it."""
    return _ANCHOR_DROPS.sub("", heading).strip().lower().replace(" ", "-")


def render(text: str, *, link: Callable[[str], str | None]) -> Rendered:
    """Renders a document. `link` turns the target of a link into an address; None leaves the link's text alone."""
    tokens = _parser.parse(text)
    title = ""
    if tokens and tokens[0].type == "heading_open" and tokens[0].tag == "h1":
        title = _plain(tokens[1])
        tokens = tokens[3:]
    sections = _mark_headings(tokens, title)
    _turn_links(tokens, link)
    return Rendered(
        title=title, html=str(_parser.renderer.render(tokens, _parser.options, {})), sections=sections
    )


def inline(text: str) -> str:
    """Renders a few paragraphs that are part of a page, without headings and links of their own."""
    return str(_parser.render(text))


def _mark_headings(tokens: Sequence[Token], title: str) -> tuple[Section, ...]:
    """Gives headings their anchors, and cuts the text at them."""
    sections: list[Section] = []
    taken: dict[str, int] = {}
    heading, anchor, level, words = title, "", 1, list[str]()

    def close() -> None:
        sections.append(Section(heading=heading, anchor=anchor, level=level, text=" ".join(words)))

    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            close()
            heading, level, words = _plain(tokens[number + 1]), int(token.tag[1]), []
            wanted = anchor_of(heading)
            taken[wanted] = taken.get(wanted, 0) + 1
            anchor = wanted if taken[wanted] == 1 else f"{wanted}-{taken[wanted] - 1}"
            token.attrSet("id", anchor)
        elif token.type == "inline" and tokens[number - 1].type != "heading_open":
            words.append(_plain(token))
        elif token.type in ("fence", "code_block"):
            words.append(" ".join(token.content.split()))
    close()
    return tuple(sections)


def _plain(token: Token) -> str:
    """The words of an inline token."""
    return "".join(
        " " if child.type in ("softbreak", "hardbreak") else child.content
        for child in token.children or ()
        if child.type in ("text", "code_inline", "softbreak", "hardbreak")
    )


def _turn_links(tokens: Sequence[Token], link: Callable[[str], str | None]) -> None:
    for token in tokens:
        if not token.children:
            continue
        kept: list[Token] = []
        dropped = 0
        for child in token.children:
            if child.type == "link_open":
                address = link(str(child.attrGet("href") or ""))
                if address is None:
                    dropped += 1
                    continue
                child.attrSet("href", address)
                if "://" in address:
                    child.attrSet("rel", "noreferrer")
            elif child.type == "link_close" and dropped:
                dropped -= 1
                continue
            kept.append(child)
        token.children = kept


class _Renderer(RendererHTML):
    """HTML with what a page needs besides: snippets that can be copied, wide tables that scroll by themselves."""

    def fence(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        """A snippet with a button that copies it, which appears where a script can make it work."""
        name = f"snippet-{idx}"
        code = super().fence(tokens, idx, options, env)
        code = code.replace("<pre><code", f'<pre tabindex="0"><code id="{name}"', 1)
        language = escapeHtml(tokens[idx].info.split(" ")[0] or "text")
        return (
            f'<div class="snippet"><div class="snippet-head"><span>{language}</span>'
            f'<button type="button" class="button button-plain button-small" data-copy="{name}" hidden>'
            f'<span data-said aria-live="polite">Copy</span></button></div>{code}</div>\n'
        )

    def table_open(self, *_: object) -> str:
        """The beginning of a table."""
        return '<div class="table-wrap" tabindex="0" role="group" aria-label="Table"><table class="table">\n'

    def table_close(self, *_: object) -> str:
        """The end of a table."""
        return "</table></div>\n"


def _made() -> MarkdownIt:
    # Without "html", tags in the source are shown as text; links to scripts and data are no links by default.
    options: dict[str, Any] = {"html": False}
    return MarkdownIt("commonmark", options, renderer_cls=_Renderer).enable("table")


_parser: Final = _made()
