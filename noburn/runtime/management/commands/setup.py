"""`manage.py setup`: servers up, schema migrated, prices seeded, everything checked."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from noburn.runtime.preparation import prepare_servers


class Command(BaseCommand):
    help = "Waits for the servers, migrates as the owner, seeds the price book and checks everything."

    def handle(self, *_args: Any, **options: Any) -> None:
        prepare_servers(verbosity=options["verbosity"])
        self.stdout.write("noburn is set up.")
