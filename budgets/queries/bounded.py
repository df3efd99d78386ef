"""Reading the money path's tables for people: in one transaction, for a limited time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import OperationalError, connection, transaction

Row = dict[str, Any]


class TookTooLong(Exception):
    """The database gave up at the limit that we set it; ask for less, or ask the command line."""


@contextmanager
def limited(*, milliseconds: int) -> Iterator[None]:
    """Runs what is inside on one snapshot, each statement for at most `milliseconds`. Raises TookTooLong.

    One snapshot: figures that are compared with each other must be of one moment.
    """
    try:
        with transaction.atomic(durable=True):
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                cursor.execute(f"SET LOCAL statement_timeout = {int(milliseconds)}")
            yield
    except OperationalError as error:
        if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            raise TookTooLong(f"no answer in {milliseconds} ms") from error
        raise


def rows(sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
    """The rows of a statement, each by the names of its columns."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
