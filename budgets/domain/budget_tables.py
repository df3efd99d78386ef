"""Budgets as a table: what a spreadsheet holds of them, read whole, every bad row named.

A row with an id of a budget in `budget` changes it; with a `subject` as well, where that budget is a template, it sets
the limit of that one subject. A row without makes a budget.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from noburn.kit.problems import FieldError

COLUMNS: Final = ("budget", "name", "scope", "subject", "tag", "metric", "window", "limit", "action")
ROWS_MAX: Final = 1_000
BYTES_MAX: Final = 500_000
CELL_CHARS_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row with the number of its line, and its cells by column: what is empty is left out."""

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowError:
    """What is wrong with one cell of one line; line 0: with the table."""

    line: int
    column: str
    message: str


def read_table(text: str) -> tuple[list[TableRow], list[RowError]]:
    """Reads a table of budgets, whose first line names the columns, in any order. Returns its rows and what is wrong."""
    if len(text.encode()) > BYTES_MAX:
        return [], [RowError(line=0, column="", message=f"must be at most {BYTES_MAX} bytes")]
    if "\x00" in text:
        return [], [RowError(line=0, column="", message="holds null characters: save it as CSV in UTF-8")]
    reader = csv.reader(io.StringIO(text.lstrip("\ufeff")), strict=True)
    rows: list[TableRow] = []
    errors: list[RowError] = []
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        errors += _header_errors(header)
        if errors:
            return [], errors
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(rows) == ROWS_MAX:
                errors.append(
                    RowError(line=reader.line_num, column="", message=f"at most {ROWS_MAX} rows at once")
                )
                break
            if len(cells) > len(header):
                errors.append(
                    RowError(
                        line=reader.line_num,
                        column="",
                        message=f"has {len(cells)} cells under {len(header)} columns",
                    )
                )
            named = {name: plain_of(cell) for name, cell in zip(header, cells, strict=False) if cell.strip()}
            errors += [
                RowError(
                    line=reader.line_num, column=name, message=f"must be at most {CELL_CHARS_MAX} characters"
                )
                for name, cell in named.items()
                if len(cell) > CELL_CHARS_MAX
            ]
            rows.append(TableRow(reader.line_num, named))
    except csv.Error as error:
        errors.append(RowError(line=reader.line_num, column="", message=f"is no CSV: {error}"))
    if not rows and not errors:
        errors.append(RowError(line=0, column="", message="has no rows below its header"))
    return rows, errors


def plain_of(cell: str) -> str:
    """Returns a cell without the quote that our own tables put before what a spreadsheet would take for a formula."""
    text = cell.strip()
    return text[1:] if len(text) > 1 and text[0] == "'" and text[1] in "=+-@" else text


def at_line(line: int, errors: list[FieldError]) -> list[RowError]:
    """Returns errors of fields as those of cells of one line: every limit stands in the column `limit`."""
    return [
        RowError(
            line=line,
            column="limit"
            if error.field.startswith("limit_")
            else "budget"
            if error.field == "id"
            else error.field,
            message=error.message,
        )
        for error in errors
    ]


def _header_errors(header: list[str]) -> list[RowError]:
    known = ", ".join(COLUMNS)
    errors = [
        RowError(line=1, column=name[:64], message=f"is no column; there are {known}")
        for name in header
        if name not in COLUMNS
    ]
    errors += [
        RowError(line=1, column=name, message="is named twice") for name in COLUMNS if header.count(name) > 1
    ]
    if "limit" not in header:
        errors.append(RowError(line=1, column="limit", message=f"is missing; the columns are {known}"))
    return errors
