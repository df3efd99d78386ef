"""Tables to take away: `?format=csv` or `?format=json` on the page that shows one."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from django.http import HttpResponse

from noburn.kit.problems import FieldError, Invalid
from noburn.kit.rest.tables import CSV_ROWS_MAX, plain

FORMATS: Final = ("csv", "json")
EXPORT_ROWS_MAX: Final = CSV_ROWS_MAX
TRUNCATED_HEADER: Final = "Noburn-Truncated"
"""Says `true` where a table had more rows than are given away at once."""


class BadFormat(Invalid):
    """A `format` that is neither csv nor json."""


def export(form: str, *, name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> HttpResponse:
    """Answers with a file of at most 10,000 rows; cells are text, numbers or None. Raises BadFormat."""
    if form not in FORMATS:
        raise BadFormat([FieldError("format", f"must be one of {', '.join(FORMATS)}")])
    taken = list(islice(rows, EXPORT_ROWS_MAX + 1))
    more, taken = len(taken) > EXPORT_ROWS_MAX, taken[:EXPORT_ROWS_MAX]
    if form == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(columns)
        writer.writerows([plain(cell) if isinstance(cell, str) else cell for cell in row] for row in taken)
        body, kind = text.getvalue(), "text/csv; charset=utf-8"
    else:
        body = json.dumps([dict(zip(columns, row, strict=True)) for row in taken], ensure_ascii=False)
        kind = "application/json"
    headers = {"Content-Disposition": f'attachment; filename="{name}.{form}"'}
    if more:
        headers[TRUNCATED_HEADER] = "true"
    return HttpResponse(body, content_type=kind, headers=headers)
