"""`manage.py database roles`: the three roles and the database on a PostgreSQL of your own."""

from __future__ import annotations

import json
import secrets
from argparse import ArgumentParser
from typing import Any

import psycopg
from django.core.management.base import BaseCommand, CommandError
from psycopg.conninfo import conninfo_to_dict

from noburn.runtime.names import APP, DATABASE, GATEWAY, OWNER
from noburn.runtime.roles import create_roles

VARIABLES = {"DATABASE_URL": APP, "DATABASE_OWNER_URL": OWNER, "DATABASE_GATEWAY_URL": GATEWAY}


class Command(BaseCommand):
    help = "Makes noburn's database and its three roles on a PostgreSQL of your own, and prints the URLs."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        roles = actions.add_parser(
            "roles",
            help="make owner, application and gateway role, each with a new password; repeating renews them",
        )
        roles.add_argument(
            "--admin-url", required=True, help="an administrator: postgresql://postgres:…@host/postgres"
        )
        roles.add_argument("--name", default=DATABASE, help="the database's name (default: %(default)s)")
        roles.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *_args: Any, **options: Any) -> None:
        passwords = {role: secrets.token_urlsafe(24) for role in VARIABLES.values()}
        try:
            create_roles(options["admin_url"], database=options["name"], passwords=passwords)
            server = conninfo_to_dict(options["admin_url"])
        except (psycopg.Error, ValueError) as problem:
            raise CommandError(f"The roles were not made: {str(problem).strip()}") from None
        urls = {
            variable: _url(server, role, passwords[role], options["name"])
            for variable, role in VARIABLES.items()
        }
        if options["json"]:
            self.stdout.write(json.dumps(urls))
            return
        self.stdout.write("# Keep these; the passwords are shown once.")
        for variable, url in urls.items():
            self.stdout.write(f"{variable}={url}")


def _url(server: dict[str, Any], role: str, password: str, database: str) -> str:
    from urllib.parse import quote, urlencode

    host, port = str(server.get("host") or "localhost"), str(server.get("port") or "5432")
    kept = {key: str(server[key]) for key in ("sslmode", "sslrootcert") if server.get(key)}
    if host.startswith("/"):
        kept |= {"host": host, "port": port}
        place = ""
    else:
        place = f"{host}:{port}"
    return f"postgresql://{role}:{quote(password)}@{place}/{database}" + (
        f"?{urlencode(kept)}" if kept else ""
    )
