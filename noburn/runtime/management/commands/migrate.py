"""Django's migrate, run as the owner of the schema unless told otherwise; each table then gets its row-level policies."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands.migrate import Command as DjangoMigrate
from django.db import connections

from noburn.runtime.isolation import isolate
from noburn.runtime.names import ACROSS


class Command(DjangoMigrate):
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        # The application's role may not change the schema.
        parser.set_defaults(database="owner")

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrates, then isolates what is new."""
        database = options["database"]
        with connections[database].cursor() as cursor:
            cursor.execute("SELECT to_regrole(%s) IS NULL", [ACROSS])
            if cursor.fetchone()[0]:
                raise CommandError(
                    f"The role {ACROSS} is missing: run `python manage.py database roles` as an administrator "
                    "(it renews the passwords of the other roles), then this again."
                )
        super().handle(*args, **options)
        if options["plan"] or options["check_unapplied"]:
            return
        with connections[database].cursor() as cursor:
            cursor.execute("SELECT to_regprocedure('nb_isolate(regclass)') IS NOT NULL")
            if cursor.fetchone()[0]:
                isolate(cursor)
