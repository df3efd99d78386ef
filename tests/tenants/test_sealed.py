"""Whatever is stored sealed is sealed again with a new key: all of it, by the batch, and again where it broke off."""

from __future__ import annotations

import io
import logging
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from cryptography.fernet import Fernet
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection

from alerts.models import Destination
from alerts.services.destinations import NewDestination, create_destination, rotate_secret
from alerts.services.secrets import sealer
from billing.models import AccessMode, StripeAccount
from noburn.kit.sealing import Sealer
from noburn.runtime import sealed
from tests.support.operators import superuser, with_second_factor
from tests.tenants.cast import Cast

pytestmark = pytest.mark.real_db

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def everything_sealed(cast: Cast) -> dict[str, str]:
    """One of everything that is stored sealed; the secrets by what they are."""
    made = create_destination(
        tenant_id=cast.tenant.pk,
        destination=NewDestination(kind="webhook", target="https://hooks.example.com/x"),
        actor="test",
        now=NOW,
    )
    again = rotate_secret(tenant_id=cast.tenant.pk, destination_id=made.destination.pk, actor="test", now=NOW)
    slack = f"https://hooks.slack.example/{uuid4().hex}"
    create_destination(
        tenant_id=cast.tenant.pk,
        destination=NewDestination(kind="slack", target=slack),
        actor="test",
        now=NOW,
    )
    key, signs = f"rk_test_{uuid4().hex}", f"whsec_{uuid4().hex}"
    StripeAccount.objects.create(
        id=uuid4(),
        tenant_id=cast.tenant.pk,
        mode=AccessMode.KEY,
        billed_from=NOW,
        next_attempt_at=NOW,
        bucket_at=NOW,
        created_at=NOW,
        updated_at=NOW,
        secret_key=sealer().seal(key),
        webhook_secrets=[sealer().seal(signs)],
    )
    secret = with_second_factor(cast.alice.user)
    RecoveryCodes.activate(cast.alice.user)
    return {
        "webhook": again.secret,
        "webhook before": made.secret,
        "slack": slack,
        "stripe key": key,
        "stripe webhook": signs,
        "second factor": secret,
    }


def sealed_columns() -> set[str]:
    """Every column of the database in which some row holds a text that Fernet made."""
    found = set()
    for model in apps.get_models():
        for field in model._meta.concrete_fields:
            kind = field.db_type(connection) or ""
            if not kind.startswith(("text", "varchar", "jsonb")):
                continue
            with connection.cursor() as cursor:
                cursor.execute(
                    f'SELECT EXISTS (SELECT FROM "{model._meta.db_table}" WHERE "{field.column}"::text LIKE %s)',
                    ["%gAAAA%"],
                )
                if cursor.fetchone()[0]:
                    found.add(f"{model._meta.db_table}.{field.column}")
    return found


class TestColumns:
    def test_are_all_named(self, cast: Cast) -> None:
        everything_sealed(cast)
        assert sealed_columns() == {column.name for column in sealed.columns()}


class TestReseal:
    def test_seals_everything_with_the_new_key_and_may_be_broken_off(self, cast: Cast, settings: Any) -> None:
        everything_sealed(cast)
        old, fresh = settings.NOBURN_ENCRYPTION_KEYS, Fernet.generate_key().decode()
        both = Sealer([fresh, *old])
        waiting = sealed.old_rows(both)
        assert set(waiting) == {column.name for column in sealed.columns()}
        with patch.object(sealed, "BATCH", 2):
            # Broken off after the first batch, and begun again.
            assert next(iter(sealed.reseal(both))).sealed > 0
            told = list(sealed.reseal(both))
        assert {progress.column for progress in told} == set(waiting)
        assert sealed.old_rows(Sealer([fresh])) == {}
        assert [progress for progress in sealed.reseal(both) if progress.sealed] == []
        row = Destination.objects.filter(tenant_id=cast.tenant.pk, kind="slack").get()
        assert Sealer([fresh]).open(row.secret).startswith("https://hooks.slack.example/")
        # Back, since others share this database.
        assert all(not progress.unreadable for progress in sealed.reseal(Sealer([*old, fresh])))

    def test_overwrites_nothing_that_changed_meanwhile(self, cast: Cast, settings: Any) -> None:
        everything_sealed(cast)
        fresh = Fernet.generate_key().decode()
        both = Sealer([fresh, *settings.NOBURN_ENCRYPTION_KEYS])
        row = Destination.objects.filter(tenant_id=cast.tenant.pk, kind="slack").get()
        other = sealer().seal("https://hooks.slack.example/moved")

        def moved(value: Any, seal: sealed.Seal) -> Any:
            Destination.objects.filter(pk=row.pk).update(secret=other)
            return sealed.text(value, seal)

        column = sealed.SealedColumn(Destination, "secret", moved)
        with patch.object(sealed, "columns", return_value=[column]):
            *_, last = sealed.reseal(both)
        row.refresh_from_db()
        assert (row.secret, last.missed >= 1) == (other, True)
        list(sealed.reseal(Sealer([*settings.NOBURN_ENCRYPTION_KEYS, fresh])))

    def test_names_rows_that_no_key_opens(self, cast: Cast) -> None:
        everything_sealed(cast)
        row = Destination.objects.filter(tenant_id=cast.tenant.pk, kind="slack").get()
        kept = row.secret
        Destination.objects.filter(pk=row.pk).update(
            secret=Sealer([Fernet.generate_key().decode()]).seal("x")
        )
        try:
            out, err = io.StringIO(), io.StringIO()
            with pytest.raises(CommandError, match="not in NOBURN_ENCRYPTION_KEYS"):
                call_command("secrets", "reseal", stdout=out, stderr=err)
            assert str(row.pk) in err.getvalue()
            with pytest.raises(CommandError, match="run secrets reseal first"):
                call_command("secrets", "encryption", "drop")
        finally:
            Destination.objects.filter(pk=row.pk).update(secret=kept)
        call_command("secrets", "reseal", stdout=out)
        assert "alerts_destination.secret" in out.getvalue()


class TestSecrets:
    def test_are_shown_nowhere(self, cast: Cast, settings: Any, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        secrets = everything_sealed(cast)
        secrets["pepper"] = settings.NOBURN_PEPPER.hex()
        secrets |= {f"signing {kid}": key.hex() for kid, key in settings.NOBURN_SIGNING_KEYS.items()}
        secrets |= {f"sealing {n}": key for n, key in enumerate(settings.NOBURN_ENCRYPTION_KEYS)}
        out = io.StringIO()
        call_command("secrets", "status", stdout=out)
        operator = superuser()
        shown = {
            "command": out.getvalue(),
            "log": caplog.text,
            "settings": repr(settings.SECRETS),
        }
        for model in (Destination, StripeAccount):
            for row in model._default_manager.filter(tenant_id=cast.tenant.pk):
                label = f"{model._meta.app_label}_{model._meta.model_name}"
                page = operator.get(
                    f"/admin/{model._meta.app_label}/{model._meta.model_name}/{row.pk}/change/"
                )
                assert page.status_code == 200
                shown[f"admin {label} {row.pk}"] = page.content.decode()
                shown[f"repr {label} {row.pk}"] = repr(row) + str(row)
        for place, text in shown.items():
            assert [name for name, secret in secrets.items() if secret in text] == [], place
            if not place.startswith("log"):
                assert "gAAAA" not in text, place
