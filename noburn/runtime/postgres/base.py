"""The backend of the application's connections.

Nothing about tenants outlives a transaction, so that no pooled or kept connection can carry one request's rights into
the next. In a transaction the scope is set with the first statement that needs it, by SET LOCAL. A statement of its own
travels with its SET LOCAL in one message, which PostgreSQL runs as one transaction; a round trip more is never taken.
"""

from __future__ import annotations

from typing import Any, cast

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.postgresql import base
from psycopg import sql
from psycopg.pq import TransactionStatus

from noburn.kit import tenancy
from noburn.kit.tenancy import NOBODY, Scope
from noburn.runtime.names import ACROSS


def statements(scope: Scope) -> tuple[str, ...]:
    """What gives a transaction this scope, whatever it had before."""
    # As a UUID prints itself: nothing in it needs quoting.
    tenant = f"SET LOCAL noburn.tenant = '{scope.tenant or ''}'"
    return (f"SET LOCAL ROLE {ACROSS if scope.across else 'NONE'}", tenant)


def first_statements(scope: Scope) -> tuple[str, ...]:
    """What gives a new transaction, which sees nobody's rows, this scope."""
    if scope == NOBODY:
        return ()
    return (statements(scope)[0 if scope.across else 1],)


class ScopedCursor(psycopg.ClientCursor[Any]):
    """A cursor whose statements carry their scope. Like Django's own it puts parameters in by itself."""

    wrapper: DatabaseWrapper | None = None

    def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        """Runs a statement in the present scope."""
        prefix = self.wrapper.prefix() if self.wrapper is not None else ()
        if self.wrapper is None or not prefix:
            return super().execute(query, params, **options)
        text = "; ".join(prefix) + "; "
        if isinstance(query, sql.Composable):
            query = sql.SQL(text) + query
        elif isinstance(query, bytes):
            query = text.encode() + query
        else:
            query = text + query
        try:
            found = super().execute(query, params, **options)
        except BaseException:
            # Whether it reached the server is not known: a wrong count of parameters never does.
            self.wrapper.forget()
            raise
        for _ in prefix:
            self.nextset()
        return found

    def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        """Runs a statement many times in the present scope, which a transaction must hold."""
        if self.wrapper is not None:
            if self.wrapper.connection.autocommit:
                raise NotImplementedError("executemany needs a transaction, which holds its scope")
            self.execute("SELECT 1")
        super().executemany(query, params_seq, **options)

    def copy(self, *_args: Any, **_options: Any) -> Any:
        """Is not to be had: it would carry no scope, and PostgreSQL copies into no table with policies."""
        raise NotImplementedError("COPY carries no scope")


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection of the application's role."""

    _applied: Scope | None = None
    """The scope of the present transaction; None: unknown, since a part of it was rolled back."""

    def get_connection_params(self) -> dict[str, Any]:
        """Django's, with our cursors."""
        if self.settings_dict["OPTIONS"].get("server_side_binding"):
            raise ImproperlyConfigured("server_side_binding would send each statement without its scope.")
        return {**super().get_connection_params(), "cursor_factory": ScopedCursor}

    def create_cursor(self, name: str | None = None) -> Any:
        """A cursor that knows us; a named one is declared by a statement that carries no scope, so it gets none."""
        if name:
            raise NotImplementedError("DISABLE_SERVER_SIDE_CURSORS must be set on this connection")
        cursor = cast(ScopedCursor, super().create_cursor())
        cursor.wrapper = self
        return cursor

    def prefix(self) -> tuple[str, ...]:
        """What must run before the next statement, which is taken to follow."""
        wanted = tenancy.current()
        connection = self.connection
        status = connection.info.transaction_status
        if status == TransactionStatus.INERROR:
            return ()  # Nothing runs now but a rollback.
        if status == TransactionStatus.IDLE:
            self._applied = None if connection.autocommit else wanted
            return first_statements(wanted)
        if self._applied == wanted:
            return ()
        self._applied = wanted
        return statements(wanted)

    def forget(self) -> None:
        """The next statement says its scope, whatever was said before."""
        self._applied = None

    def _savepoint_rollback(self, sid: str) -> None:
        super()._savepoint_rollback(sid)  # type: ignore[misc]
        # What was set since is undone as well.
        self.forget()

    def _commit(self) -> None:
        if (
            self.connection is not None
            and self.connection.info.transaction_status == TransactionStatus.INTRANS
        ):
            # Deferred triggers run in the scope of the transaction, not of its last statement's block.
            left = self.prefix()
            if left:
                with self.connection.cursor() as cursor:
                    cursor.execute("; ".join(left))
        super()._commit()  # type: ignore[misc]
