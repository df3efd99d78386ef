"""`manage.py secrets status|signing|pepper|encryption|reseal`: the installation's secrets, and how they are renewed."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q

from noburn.kit.clock import utc_now
from noburn.kit.sealing import Sealer
from noburn.runtime import rotation, sealed
from noburn.runtime.errors import RuntimeProblem
from noburn.runtime.home import Home
from tenants.domain.api_keys import pepper_id
from tenants.models import ApiKey

RESTART = "Restart every noburn of this installation."


class Command(BaseCommand):
    help = (
        "The installation's secrets: what is in use, and the steps by which each is renewed. Shows no secret."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        topics = parser.add_subparsers(dest="topic", required=True)
        topics.add_parser("status", help="what is in use, and what still depends on older secrets")
        signing = topics.add_parser("signing", help="keys that sign authorizations").add_subparsers(
            dest="step", required=True
        )
        signing.add_parser("add", help="make a key that verifies and does not sign yet")
        signing.add_parser("use", help="have a key sign").add_argument("kid")
        signing.add_parser("drop", help="forget a key, 400 days after it last signed").add_argument("kid")
        pepper = topics.add_parser("pepper", help="the pepper of API keys").add_subparsers(
            dest="step", required=True
        )
        pepper.add_parser("add", help="make the pepper of new keys; older keys go on working")
        pepper.add_parser("drop", help="forget the previous pepper").add_argument(
            "--force", action="store_true", help="though API keys under it are live, and end"
        )
        encryption = topics.add_parser("encryption", help="keys that seal stored secrets").add_subparsers(
            dest="step", required=True
        )
        encryption.add_parser("add", help="make the key that seals from now on")
        encryption.add_parser("drop", help="forget the older keys, after reseal")
        topics.add_parser("reseal", help="seal everything stored with the newest key; may be repeated")

    def handle(self, *_args: Any, **options: Any) -> None:
        step = "_".join(filter(None, (options["topic"], options.get("step"))))
        try:
            getattr(self, f"_{step}")(Home.at(settings.NOBURN_HOME), options)
        except RuntimeProblem as problem:
            raise CommandError(str(problem)) from None

    def _status(self, _home: Home, _options: dict[str, Any]) -> None:
        kids = ", ".join(settings.NOBURN_SIGNING_KEYS)
        self.stdout.write(f"signing: {settings.NOBURN_SIGNING_KID} signs, {kids} verify")
        previous = settings.NOBURN_PEPPER_PREVIOUS
        self.stdout.write(
            f"pepper: {pepper_id(settings.NOBURN_PEPPER)}"
            + (f", previous {pepper_id(previous)}, {self._older_keys()} live keys" if previous else "")
        )
        self.stdout.write(f"encryption: {len(settings.NOBURN_ENCRYPTION_KEYS)} keys, the first seals")
        for column, rows in sealed.old_rows(self._sealer()).items():
            self.stdout.write(f"  {column}: {rows} rows wait for reseal")

    def _signing_add(self, home: Home, _options: dict[str, Any]) -> None:
        kid = rotation.add_signing_key(home)
        self.stdout.write(f"{kid} verifies from the next start on. {RESTART} Then: secrets signing use {kid}")

    def _signing_use(self, home: Home, options: dict[str, Any]) -> None:
        kid = options["kid"]
        if kid not in settings.NOBURN_SIGNING_KEYS:
            raise CommandError(f"there is no signing key {kid!r}")
        rotation.use_signing_key(home, kid)
        self.stdout.write(f"{kid} signs from the next start on. {RESTART}")

    def _signing_drop(self, home: Home, options: dict[str, Any]) -> None:
        rotation.drop_signing_key(home, options["kid"])
        self.stdout.write(f"{options['kid']} is forgotten. {RESTART}")

    def _pepper_add(self, home: Home, _options: dict[str, Any]) -> None:
        rotation.add_pepper(home)
        self.stdout.write(f"New API keys have a new pepper from the next start on. {RESTART}")

    def _pepper_drop(self, home: Home, options: dict[str, Any]) -> None:
        older = self._older_keys()
        if older and not options["force"]:
            raise CommandError(
                f"{older} live API keys are under the previous pepper: rotate them, or --force"
            )
        rotation.drop_pepper(home)
        self.stdout.write(f"The previous pepper is forgotten. {RESTART}")

    def _encryption_add(self, home: Home, _options: dict[str, Any]) -> None:
        rotation.add_encryption_key(home)
        self.stdout.write(f"A new key seals from the next start on. {RESTART} Then: secrets reseal")

    def _encryption_drop(self, home: Home, _options: dict[str, Any]) -> None:
        waiting = sum(sealed.old_rows(self._sealer()).values())
        if waiting:
            raise CommandError(f"{waiting} rows are sealed with older keys: run secrets reseal first")
        rotation.drop_encryption_keys(home)
        self.stdout.write(f"Only the newest key is left. {RESTART}")

    def _reseal(self, _home: Home, _options: dict[str, Any]) -> None:
        unreadable = 0
        for progress in sealed.reseal(self._sealer()):
            self.stdout.write(
                f"{progress.column}: {progress.seen} rows seen, {progress.sealed} sealed again"
                + (f", {progress.missed} changed meanwhile" if progress.missed else "")
            )
            if progress.unreadable:
                unreadable += len(progress.unreadable)
                self.stderr.write(f"{progress.column}: no key opens {', '.join(progress.unreadable[:20])}")
        if unreadable:
            raise CommandError("some rows are sealed with a key that is not in NOBURN_ENCRYPTION_KEYS")

    def _sealer(self) -> Sealer:
        return Sealer(settings.NOBURN_ENCRYPTION_KEYS)

    def _older_keys(self) -> int:
        live = ApiKey.objects.filter(revoked_at__isnull=True)
        live = live.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=utc_now()))
        return live.exclude(pepper=pepper_id(settings.NOBURN_PEPPER)).count()
