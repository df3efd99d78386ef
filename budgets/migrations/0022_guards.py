"""Runaway guards, and what the log of decisions says of them. Source: budgets/stores/postgres/sql/guards.sql."""

from pathlib import Path

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import tenants.models.base

SQL = Path(__file__).resolve().parent.parent / "stores" / "postgres" / "sql"
KINDS = ("repeat", "velocity", "depth", "call", "newcomer")
MODES = (("observe", "Observe"), ("enforce", "Enforce"))
SCOPES = ("tenant", "project", "customer", "user", "api_key")
LOCK_SECONDS = 5
NOTHING = migrations.RunSQL.noop

# Without a default, so that no row is rewritten.
COLUMNS = """
ALTER TABLE decisions ADD COLUMN IF NOT EXISTS guard_id uuid, ADD COLUMN IF NOT EXISTS guards_observed uuid[];
CREATE INDEX IF NOT EXISTS decisions_guarded ON decisions (id) WHERE guard_id IS NOT NULL OR guards_observed IS NOT NULL;
"""


def read(name: str) -> migrations.RunSQL:
    """Runs one file whole; there is no way back but to run an older one."""
    return migrations.RunSQL((SQL / f"{name}.sql").read_text(), NOTHING)


class Migration(migrations.Migration):
    dependencies = [("budgets", "0021_runs"), ("tenants", "0003_calls_refused")]
    operations = [
        # A lock that is not had soon is given up: the log waits behind it.
        migrations.RunSQL(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'", NOTHING),
        migrations.CreateModel(
            name="Guard",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=tenants.models.base.fresh_id,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("name", models.CharField(max_length=200)),
                ("kind", models.CharField(choices=[(k, k) for k in KINDS], max_length=16)),
                ("mode", models.CharField(choices=list(MODES), default="observe", max_length=8)),
                ("scope", models.CharField(choices=[(s, s) for s in SCOPES], max_length=16)),
                ("subject", models.CharField(max_length=300)),
                ("limits", models.JSONField()),
                ("archived_at", models.DateTimeField(blank=True, null=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id"), name="budgets_guard_tenant_id"),
                    models.CheckConstraint(
                        condition=models.Q(kind__in=list(KINDS)), name="budgets_guard_kind"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(mode__in=["observe", "enforce"]), name="budgets_guard_mode"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(scope__in=list(SCOPES)), name="budgets_guard_scope"
                    ),
                    models.CheckConstraint(condition=~models.Q(subject=""), name="budgets_guard_subject"),
                ],
                "indexes": [
                    models.Index(
                        condition=models.Q(archived_at__isnull=True),
                        fields=["tenant", "created_at", "id"],
                        name="budgets_guard_live",
                    ),
                ],
            },
        ),
        migrations.RunSQL(COLUMNS, NOTHING),
        read("decisions"),
        migrations.RunSQL("SELECT nb_close_decisions()", NOTHING),
        read("guards"),
        read("privileges"),
    ]
