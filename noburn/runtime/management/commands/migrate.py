"""Django's migrate, run as the owner of the schema unless told otherwise."""

from __future__ import annotations

from django.core.management.base import CommandParser
from django.core.management.commands.migrate import Command as DjangoMigrate


class Command(DjangoMigrate):
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        # The application's role may not change the schema.
        parser.set_defaults(database="owner")
