"""Row-level security: which tables lack it, and how `migrate` gives it to them.

Every table with a `tenant_id` gets the same policies (isolation.sql), made by `migrate` behind its migrations: nobody
who adds a table has to think of it, and noburn refuses to start on one that lacks them.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import psycopg

TRIES: Final = 60
LOCK_WAIT: Final = "500ms"
"""How often a table's lock is asked for, and for how long: whoever comes behind us waits as well."""

# A table is a tenant's by its column; the policies are compared word by word, as PostgreSQL writes them back.
UNISOLATED: Final = """
WITH tenants AS (
    SELECT c.oid, c.relkind, c.relrowsecurity AND c.relforcerowsecurity AS forced,
        coalesce('security_invoker=true' = ANY (c.reloptions), false) AS invoker,
        format('(%I = (NULLIF(current_setting(''noburn.tenant''::text, true), ''''::text))::uuid)', a.attname) AS rule
    FROM pg_class c
    JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
        AND a.attname = CASE c.relname WHEN 'tenants_tenant' THEN 'id' ELSE 'tenant_id' END
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')),
policies AS (
    SELECT p.polrelid, p.polpermissive AND p.polcmd = '*' AS whole,
        ARRAY(SELECT CASE r WHEN 0 THEN 'public' ELSE pg_get_userbyid(r)::text END FROM unnest(p.polroles) r) AS roles,
        pg_get_expr(p.polqual, p.polrelid) AS sees, pg_get_expr(p.polwithcheck, p.polrelid) AS writes
    FROM pg_policy p),
counted AS (
    SELECT t.oid, count(*) FILTER (WHERE p.roles && ARRAY['public', 'noburn_app']) AS his,
        count(*) FILTER (WHERE p.whole AND p.roles = ARRAY['noburn_app'] AND p.sees = t.rule AND p.writes = t.rule)
            AS good
    FROM tenants t LEFT JOIN policies p ON p.polrelid = t.oid GROUP BY 1),
judged AS (
    SELECT t.oid::regclass::text AS name, t.relkind::text AS kind, CASE
        WHEN t.relkind IN ('m', 'f') THEN 'is of a kind that has no row-level security'
        WHEN t.relkind = 'v' AND NOT t.invoker THEN 'is a view without security_invoker, which reads as its owner'
        WHEN t.relkind = 'v' THEN NULL
        WHEN NOT t.forced THEN 'has no FORCE ROW LEVEL SECURITY'
        WHEN c.good <> 1 THEN 'has no policy that keeps the application to one tenant'
        WHEN c.his <> 1 THEN 'has another policy for the application'
        END AS lacks
    FROM tenants t JOIN counted c ON c.oid = t.oid)
SELECT name, kind, lacks FROM judged WHERE lacks IS NOT NULL ORDER BY name
"""

# Whoever inherits the role that spans tenants would pass every policy without saying so.
SPANS: Final = """
SELECT r.role IS NULL AS missing,
    coalesce(pg_has_role(current_user, r.role, 'USAGE'), false) AS inherits,
    coalesce(pg_has_role(current_user, r.role, 'MEMBER'), false) AS member
FROM (SELECT to_regrole('noburn_across')::oid AS role) AS r
"""


class Cursor(Protocol):
    """A database cursor, of Django's or psycopg's."""

    def execute(self, sql: Any, params: Any = None) -> Any: ...

    def fetchall(self) -> list[Any]: ...


def isolate(cursor: Cursor) -> int:
    """Gives every table that lacks them its policies, as the owner and outside of a transaction; returns how many.

    Each table is locked for a moment and by itself, so that whoever uses several of them is not in the way, and the
    other way round; a lock that is not had in time is asked for again. Raises psycopg.errors.LockNotAvailable in the
    end. What is there stays as it is: a policy that somebody altered is a fault, which is shown and not overwritten.
    """
    cursor.execute("SELECT set_config('lock_timeout', %s, false)", [LOCK_WAIT])
    cursor.execute(UNISOLATED)
    tables = [row[0] for row in cursor.fetchall() if row[1] in ("r", "p")]
    for table in tables:
        _patiently(cursor, "SELECT nb_isolate(%s::regclass)", [table])
    _patiently(cursor, "SELECT nb_span_rights()", [])
    return len(tables)


def _patiently(cursor: Cursor, statement: str, params: list[str]) -> None:
    for left in reversed(range(TRIES)):
        try:
            cursor.execute(statement, params)
            return
        except Exception as error:
            cause = error if isinstance(error, psycopg.Error) else error.__cause__
            if not isinstance(cause, psycopg.errors.LockNotAvailable) or not left:
                raise
