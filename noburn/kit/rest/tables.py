"""Answers as tables: text/csv for spreadsheets, beside JSON."""

from __future__ import annotations

import csv
import io
import re
from typing import Any, Final

from rest_framework.renderers import BaseRenderer

CSV_ROWS_MAX: Final = 10_000
NEXT_CURSOR_HEADER: Final = "Noburn-Next-Cursor"
"""Names the `cursor` of the next rows of a table, which has no other place for it."""


class CsvRenderer(BaseRenderer):
    """A table as text/csv."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None
    ) -> bytes:
        """Writes rows, the first of which names the columns."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\r\n").writerows(data)
        return text.getvalue().encode()


_NUMBER: Final = re.compile(r"-[0-9]{1,20}(\.[0-9]{1,12})?")


def plain(name: str | None) -> str | None:
    """Returns a name as a cell of a table: a spreadsheet would take some for formulas, but no number for one."""
    if name and name[0] in "=+-@\t\r" and not _NUMBER.fullmatch(name):
        return f"'{name}"
    return name
