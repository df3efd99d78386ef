"""Which documents there are, what each is called in addresses, and in which order they are listed."""

from __future__ import annotations

from typing import Final

OUTSIDE: Final = {
    "README.md": "introduction",
    "sdks/python/README.md": "python-sdk/readme",
    "ARCHITECTURE.md": "architecture",
    "CHANGELOG.md": "changelog",
    "SECURITY.md": "security",
}
"""Documents that do not lie under docs/, by their path from the project's root, with their slugs."""

GROUPS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (
        "Begin",
        ("quickstart", "introduction", "dashboard", "python-sdk", "python-sdk/readme", "proxy", "gateway"),
    ),
    (
        "Budgets and prices",
        ("budgets", "leases", "runs", "guards", "estimates", "prices", "rerating", "compare"),
    ),
    ("Use", ("metering", "decisions", "alerts")),
    ("Billing", ("billing", "billing-stripe", "embedding")),
    ("The API", ("api", "problems")),
    ("Running it", ("operations", "reliability", "runbooks", "admin", "security")),
    ("How it is made", ("architecture", "escrow", "mutants", "dependencies", "adr")),
    ("Words and changes", ("glossary", "changelog")),
)
"""The index, by slug. What is not there yet is left out, and what nobody listed comes under MORE."""

MORE: Final = "More"


def slug_of(path: str) -> str | None:
    """The slug of a document named by its path from the root; None for a file that is not served."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    if not path.startswith("docs/") or not path.endswith(".md"):
        return None
    return path.removeprefix("docs/").removesuffix(".md").removesuffix("/README")
