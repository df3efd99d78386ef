"""The database roles, from the first migration on: owner, application, gateway, and across.

`noburn_owner` owns database and schema and runs migrations. `noburn_app` reads and writes what the owner
makes (by default privileges; migrations take UPDATE and DELETE away on append-only tables). `noburn_gateway`
starts with nothing: migrations grant it EXECUTE and SELECT by name. None is a superuser or bypasses row-level
security. `noburn_across` is what the application becomes, within a transaction, for work that spans tenants: it
may what the application may, and its policies let it see every row; nobody signs in as it. Everything here can
be repeated.
"""

from __future__ import annotations

import re
import sys

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from noburn.runtime.names import ACROSS, APP, DATABASE, GATEWAY, OWNER

DATABASE_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def role_statements(passwords: dict[str, str] | None = None) -> list[sql.Composed]:
    """Returns the statements that make or correct the roles; `passwords` go by role name."""
    statements: list[sql.Composed] = []
    for role in (OWNER, APP, GATEWAY):
        name = sql.Identifier(role)
        statements.append(
            sql.SQL(
                "DO $$ BEGIN CREATE ROLE {name} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
            ).format(name=name)
        )
        statements.append(
            sql.SQL(
                "ALTER ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
            ).format(name=name)
        )
        if passwords and role in passwords:
            statements.append(
                sql.SQL("ALTER ROLE {name} PASSWORD {password}").format(
                    name=name, password=sql.Literal(passwords[role])
                )
            )
    names = {"app": sql.Identifier(APP), "across": sql.Identifier(ACROSS)}
    texts = (
        "DO $$ BEGIN CREATE ROLE {across} NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "ALTER ROLE {across} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS",
        # By SET ROLE alone: inherited, its policies would be the application's own. From PostgreSQL 16 on the
        # grant itself remembers, and takes this for its default.
        "ALTER ROLE {app} NOINHERIT",
        "GRANT {across} TO {app}",
    )
    return statements + [sql.SQL(text).format(**names) for text in texts]


def database_statements(database: str) -> list[sql.Composed]:
    """Returns the statements to be run inside the database, by a superuser or its owner's administrator."""
    names = {
        "database": sql.Identifier(database),
        "owner": sql.Identifier(OWNER),
        "app": sql.Identifier(APP),
        "gateway": sql.Identifier(GATEWAY),
        "across": sql.Identifier(ACROSS),
    }
    texts = (
        "ALTER DATABASE {database} OWNER TO {owner}",
        "REVOKE ALL ON DATABASE {database} FROM PUBLIC",
        "GRANT CONNECT ON DATABASE {database} TO {app}, {gateway}",
        "ALTER SCHEMA public OWNER TO {owner}",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        "GRANT USAGE ON SCHEMA public TO {app}, {gateway}, {across}",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public "
        "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app}, {across}",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public "
        "GRANT USAGE, SELECT ON SEQUENCES TO {app}, {across}",
        # PUBLIC may execute every new function unless told otherwise; the gateway gets its own by name.
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public "
        "GRANT EXECUTE ON FUNCTIONS TO {app}, {across}",
    )
    return [sql.SQL(text).format(**names) for text in texts]


def create_roles(
    admin_url: str, *, database: str = DATABASE, passwords: dict[str, str] | None = None
) -> None:
    """Makes roles and database on the server of `admin_url`, which must name an administrator.

    Raises psycopg.Error when the administrator may not.
    """
    if not DATABASE_NAME.fullmatch(database):
        raise ValueError(f"{database!r} is not a plain lower-case name for a database")
    with psycopg.connect(admin_url, autocommit=True) as connection:
        for statement in role_statements(passwords):
            connection.execute(statement)
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone()
        if not found:
            # An administrator that is no superuser must be a member of the owner to give a database to it.
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
    inside = make_conninfo(admin_url, dbname=database)
    with psycopg.connect(inside, autocommit=True) as connection:
        for statement in database_statements(database):
            connection.execute(statement)


def main() -> None:
    try:
        create_roles(sys.argv[1])
    except psycopg.Error as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
