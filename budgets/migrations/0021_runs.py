"""Runs, whose caps are counters of the escrow. Source: budgets/stores/postgres/sql/runs.sql, docs/runs.md.

Calls go on meanwhile: nothing that they read is rewritten.
"""

from pathlib import Path

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

import tenants.models.base

SQL = Path(__file__).resolve().parent.parent / "stores" / "postgres" / "sql"
SCOPES = (
    "tenant",
    "project",
    "customer",
    "user",
    "run",
    "api_key",
    "plan",
    "provider",
    "model",
    "tag",
    "wallet",
    "run_cap",
)
STATES = ("open", "ended", "stopped")
LOCK_SECONDS = 5


def read(name: str) -> migrations.RunSQL:
    """Runs one file whole; there is no way back but to run an older one."""
    return migrations.RunSQL((SQL / f"{name}.sql").read_text(), migrations.RunSQL.noop)


class Migration(migrations.Migration):
    dependencies = [("budgets", "0020_leases"), ("tenants", "0003_calls_refused")]
    operations = [
        # A lock that is not had soon is given up: settlements wait behind it.
        migrations.RunSQL(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'", migrations.RunSQL.noop),
        migrations.CreateModel(
            name="Run",
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
                ("run", models.CharField(max_length=200)),
                ("version", models.IntegerField()),
                ("state", models.CharField(choices=[(s, s) for s in STATES], max_length=8)),
                ("parent", models.CharField(blank=True, max_length=200, null=True)),
                (
                    "parents",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=200), blank=True, default=list, size=None
                    ),
                ),
                ("depth_left", models.SmallIntegerField()),
                ("cap_nano", models.BigIntegerField(blank=True, null=True)),
                ("cap_steps", models.BigIntegerField(blank=True, null=True)),
                ("cap_seconds", models.IntegerField(blank=True, null=True)),
                ("cap_depth", models.SmallIntegerField(blank=True, null=True)),
                ("ends_at", models.DateTimeField(blank=True, null=True)),
                ("ends_by", models.CharField(blank=True, max_length=200)),
                ("idle_seconds", models.IntegerField()),
                ("project", models.CharField(blank=True, max_length=200)),
                ("customer", models.CharField(blank=True, max_length=200)),
                ("end_user", models.CharField(blank=True, max_length=200)),
                ("metadata", models.JSONField(blank=True, default=dict)),
                ("digest", models.CharField(blank=True, max_length=64)),
                ("started_at", models.DateTimeField()),
                ("last_seen_at", models.DateTimeField()),
                ("closed_at", models.DateTimeField(blank=True, null=True)),
                ("closed_by", models.CharField(blank=True, max_length=200)),
                ("reason", models.CharField(blank=True, max_length=500)),
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
                    models.UniqueConstraint(fields=("tenant", "id"), name="budgets_run_tenant_id"),
                    models.UniqueConstraint(fields=("tenant", "run"), name="budgets_run_one_per_name"),
                    models.CheckConstraint(condition=models.Q(state__in=STATES), name="budgets_run_state"),
                    models.CheckConstraint(
                        condition=models.Q(state="open", closed_at__isnull=True)
                        | ~models.Q(state="open") & models.Q(closed_at__isnull=False),
                        name="budgets_run_closed",
                    ),
                ],
                "indexes": [
                    models.Index(fields=["tenant", "started_at", "id"], name="budgets_run_by_start"),
                    models.Index(
                        condition=models.Q(state="open"), fields=["tenant", "id"], name="budgets_run_of_open"
                    ),
                    models.Index(
                        condition=models.Q(state="open"),
                        fields=["last_seen_at", "id"],
                        name="budgets_run_idle",
                    ),
                ],
            },
        ),
        # Whom a stop reaches besides: the runs below.
        migrations.RunSQL(
            "CREATE INDEX budgets_run_below ON budgets_run USING gin (parents)",
            "DROP INDEX IF EXISTS budgets_run_below",
        ),
        migrations.RemoveConstraint(model_name="budget", name="budgets_budget_scope"),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(scope__in=list(SCOPES)), name="budgets_budget_scope"
            ),
        ),
        read("runs"),
        read("grant"),
        read("retention"),
        read("privileges"),
    ]
