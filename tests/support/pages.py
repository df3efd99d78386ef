"""Pages of which a part is made by a program."""

from __future__ import annotations


def with_part(text: str, made: str, *, begin: str, end: str) -> str:
    """The page with what stands between two marks made anew."""
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{made}\n\n{end}{after}"
