"""What the documents name exists: files, links, settings, commands, fields, problems, dependencies."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from budgets.domain.escrow import HoldState, Verdict
from budgets.domain.policy import Action, Metric, Scope, WindowKind
from budgets.gateway.app import GatewayApp
from budgets.gateway.wire import Extend, Preflight, Settle, SettleBatch, Subject, Void
from noburn.kit.problems import REGISTRY

ROOT = Path(__file__).resolve().parents[2]
HIDDEN = re.compile(r"(^|/)(\.[^/]+|__pycache__|[^/]+\.egg-info|dist|build|node_modules)(/|$)")
ENDINGS = "py|md|sql|lua|txt|in|toml|json|html|sh|yml|ts"
FILE_NAME = re.compile(rf"[\w*.-]+\.(?:{ENDINGS})")
PATH = re.compile(rf"(?:\.\./)*[\w*.-]+(?:/[\w*.-]+)*(?:/|/[\w*.-]+\.(?:{ENDINGS}))")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
BUILT_IN = {"check", "createsuperuser", "makemigrations", "migrate", "shell"}
MADE_AT_RUN_TIME = {
    "secrets.json",
    ".venv/",
    ".noburn/",
    "postgres/",
    "counters/",
    "broker/",
    "run/",
    "logs/",
}


@cache
def tree() -> frozenset[str]:
    """Every file and directory (ending in /) of the project, as a path from its root."""
    found = set()
    stack = [ROOT]
    while stack:
        for path in stack.pop().iterdir():
            name = path.relative_to(ROOT).as_posix()
            if HIDDEN.search(name) and name not in (".ci", ".importlinter"):
                continue
            found.add(f"{name}/" if path.is_dir() else name)
            if path.is_dir() and not path.is_symlink():
                stack.append(path)
    return frozenset(found)


@cache
def text_of(document: str) -> str:
    return (ROOT / document).read_text()


DOCUMENTS = sorted(name for name in tree() if name.endswith(".md"))
SOURCES = sorted(name for name in tree() if name.endswith((".py", ".sql", ".lua")))


def prose(document: str) -> str:
    return FENCE.sub("", text_of(document))


def anchors(document: str) -> set[str]:
    """The names by which a document's headings can be linked to."""
    heads = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head)) for head in heads)
    return {head.strip().lower().replace(" ", "-") for head in plain}


def places(document: str, path: str) -> Iterator[str]:
    """Where a path named in a document may lie: beside it, at the root, or in a room of the same app."""
    here = (ROOT / document).parent
    for base in (here, ROOT, *(p for p in here.iterdir() if p.is_dir())):
        place = (base / path).resolve()
        if place.is_relative_to(ROOT):
            yield place.relative_to(ROOT).as_posix() + ("/" if path.endswith("/") else "")


def exists(document: str, path: str) -> bool:
    if "*" in path:
        return any(list(base.glob(path)) for base in ((ROOT / document).parent, ROOT))
    if "/" not in path:
        return any(name.rpartition("/")[2] == path for name in tree())
    return any(place in tree() for place in places(document, path))


@pytest.mark.parametrize("document", DOCUMENTS)
class TestDocument:
    def test_links_to_pages_and_headings_that_exist(self, document: str) -> None:
        wrong = []
        for link in LINK.findall(prose(document)):
            if re.match(r"[a-z]+:", link):
                continue
            target, _, anchor = link.partition("#")
            page = ((ROOT / document).parent / target).resolve() if target else ROOT / document
            # A heading is looked for in the page alone, so in a page that exists.
            found = page.exists() and (not anchor or anchor in anchors(page.relative_to(ROOT).as_posix()))
            if not found:
                wrong.append(link)
        assert not wrong

    def test_names_files_that_exist(self, document: str) -> None:
        named = [
            word.rstrip(",;:")
            for code in CODE.findall(prose(document))
            for word in code.split()
            if "…" not in word and "://" not in word and not word.startswith(("/", "-", "{", "`"))
        ]
        paths = [word for word in named if PATH.fullmatch(word) or FILE_NAME.fullmatch(word)]
        assert [p for p in paths if p not in MADE_AT_RUN_TIME and not exists(document, p)] == []

    def test_names_commands_that_exist(self, document: str) -> None:
        text = text_of(document)
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        # A command stands in backticks, or begins a line of a block.
        makes = re.findall(r"(?:`|^)(?:[A-Z_]+=\S+ )*make ([a-z]+)", text, re.MULTILINE)
        assert set(makes) - targets == set()
        commands = {Path(name).stem for name in tree() if "/management/commands/" in name} | BUILT_IN
        assert set(re.findall(r"manage\.py ([a-z]\w*)", text)) - {"is"} - commands == set()

    def test_ends_with_one_line_end_and_has_one_title(self, document: str) -> None:
        text = text_of(document)
        assert text.startswith("# ")
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        assert len(re.findall(r"^# ", prose(document), re.MULTILINE)) == 1


class TestDependencies:
    @pytest.mark.parametrize("name", ["requirements.in", "requirements-dev.in"])
    def test_have_each_a_reason_and_no_reason_is_left_over(self, name: str) -> None:
        lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
        wanted = {re.split(r"[\[=<>~ ]", line)[0] for line in lines if line and not line.startswith("-")}
        section = text_of("docs/dependencies.md").partition(f": {name}")[2].partition("\n## ")[0]
        rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")]
        assert {row[0].removeprefix("| ") for row in rows} - {"Package"} == wanted
        assert all(len(row) == 4 and all(cell.strip(" |") for cell in row) for row in rows)


class TestProblems:
    def test_have_each_a_page_that_the_interface_links_to(self) -> None:
        pages = {Path(name).stem for name in tree() if re.fullmatch(r"docs/problems/[\w-]+\.md", name)}
        linked = set(re.findall(r"\(problems/([\w-]+)\.md\)", text_of("docs/gateway.md")))
        assert pages == set(REGISTRY) == linked

    def test_stand_in_the_interface_under_their_status(self) -> None:
        rows = re.findall(r"^\| (\d{3}) \| (.+?) \|", text_of("docs/gateway.md"), re.MULTILINE)
        told = {(slug, int(status)) for status, cell in rows for slug in re.findall(r"\[([\w-]+)\]", cell)}
        assert len(told) >= 15
        assert {slug: REGISTRY[slug].status for slug, _ in told} == dict(told)


class TestInterface:
    @pytest.mark.parametrize("shape", [Preflight, Subject, Settle, SettleBatch, Void, Extend])
    def test_is_documented_field_by_field(self, shape: type) -> None:
        text = text_of("docs/gateway.md")
        assert [name for name in shape.__annotations__ if not re.search(rf'[`"]{name}[`"]', text)] == []

    def test_is_documented_path_by_path(self) -> None:
        heads = re.findall(r"^## .+$", text_of("docs/gateway.md"), re.MULTILINE)
        assert [path for path in GatewayApp.PATHS if not any(path in head for head in heads)] == []


class TestSettings:
    def test_stand_each_in_the_operators_table(self) -> None:
        table = "\n".join(re.findall(r"^\| `.+$", text_of("docs/operations.md"), re.MULTILINE))
        read = set()
        for node in ast.walk(ast.parse((ROOT / "noburn/settings.py").read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("env."):
                read |= {str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)}
        assert {"PORT", "REDIS_URL"} <= read
        assert {name for name in read if f"`{name}`" not in table} == set()


class TestGlossary:
    def test_explains_a_word_once(self) -> None:
        words = self._words()
        assert len(words) == len(set(words)) > 50

    def test_explains_words_that_are_used(self) -> None:
        everything = "\n".join(text_of(name) for name in (*DOCUMENTS, *SOURCES) if "glossary" not in name)
        lower = everything.lower()
        assert [word for word in self._words() if re.split(r"[ ,]", word)[0].lower() not in lower] == []

    @pytest.mark.parametrize("words", [HoldState, Scope, Metric, Action])
    def test_holds_the_words_of_the_code(self, words: type[HoldState | Scope | Metric | Action]) -> None:
        text = text_of("docs/glossary.md")
        assert [word.value for word in words if not re.search(rf"\b{word.value}\b", text)] == []

    def test_holds_what_a_refusal_may_be(self) -> None:
        text = text_of("docs/gateway.md") + text_of("docs/glossary.md")
        assert [word for word in (Verdict.BUSY, Verdict.EXCEEDED) if word.value not in text] == []
        assert [kind for kind in WindowKind if kind.value not in text_of("CHANGELOG.md")] == [
            WindowKind.TOTAL
        ]

    def _words(self) -> list[str]:
        cells = re.findall(r"^\| \*\*(.+?)\*\*", text_of("docs/glossary.md"), re.MULTILINE)
        return [word for cell in cells for word in cell.split(", ")]


class TestDecisions:
    RECORDS = sorted(name for name in tree() if re.fullmatch(r"docs/adr/\d{4}-[\w-]+\.md", name))

    def test_are_numbered_without_a_gap_and_listed(self) -> None:
        numbers = [int(Path(name).name[:4]) for name in self.RECORDS]
        assert numbers == list(range(1, len(numbers) + 1))
        listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", text_of("docs/adr/README.md"))
        assert listed == [Path(name).name for name in self.RECORDS]

    @pytest.mark.parametrize("record", RECORDS)
    def test_say_context_decision_and_consequences_on_one_page(self, record: str) -> None:
        text = text_of(record)
        heads = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert heads == ["Context", "Decision", "Consequences"]
        assert text.startswith(f"# {int(Path(record).name[:4])}. ")
        assert len(text.splitlines()) <= 60
