"""Policies that say which model a call uses, budgets that downgrade, and what the log of decisions keeps of both.

Source of the log's functions: budgets/stores/postgres/sql/decisions.sql.
"""

from pathlib import Path

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import tenants.models.base

SQL = Path(__file__).resolve().parent.parent / "stores" / "postgres" / "sql"
LOCK_SECONDS = 5


class Migration(migrations.Migration):
    dependencies = [("budgets", "0017_wallets"), ("tenants", "0003_calls_refused")]
    operations = [
        # A lock that is not had soon is given up: the log of decisions waits behind it.
        migrations.RunSQL(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'", migrations.RunSQL.noop),
        migrations.CreateModel(
            name="RoutingPolicy",
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
                ("version", models.IntegerField(default=1)),
                ("name", models.CharField(max_length=200)),
                ("position", models.IntegerField(default=0)),
                ("enabled", models.BooleanField(default=True)),
                ("rules", models.JSONField()),
                ("tiers", models.JSONField(default=dict)),
                ("time_zone", models.CharField(blank=True, max_length=64, null=True)),
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
                "db_table": "routing_policies",
                "indexes": [
                    models.Index(
                        condition=models.Q(("archived_at__isnull", True)),
                        fields=["tenant", "position", "created_at", "id"],
                        name="routing_policies_live",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id"), name="routing_policies_tenant_id"),
                    models.CheckConstraint(
                        condition=models.Q(("version__gte", 1)), name="routing_policies_version"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("position__range", (0, 1_000_000))),
                        name="routing_policies_position",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("name", ""), _negated=True), name="routing_policies_name"
                    ),
                ],
            },
        ),
        migrations.AddField(
            model_name="budget",
            name="downgrade_model",
            field=models.CharField(blank=True, max_length=200, null=True),
        ),
        migrations.AlterField(
            model_name="budget",
            name="action",
            field=models.CharField(
                choices=[("block", "block"), ("warn", "warn"), ("downgrade", "downgrade")],
                default="block",
                max_length=16,
            ),
        ),
        migrations.RemoveConstraint(model_name="budget", name="budgets_budget_action"),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(("action__in", ["block", "warn", "downgrade"])),
                name="budgets_budget_action",
            ),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("action", "downgrade"), ("downgrade_model__gt", "")),
                    models.Q(
                        models.Q(("action", "downgrade"), _negated=True),
                        ("downgrade_model__isnull", True),
                    ),
                    _connector="OR",
                ),
                name="budgets_budget_downgrade",
            ),
        ),
        migrations.RunSQL((SQL / "decisions.sql").read_text(), migrations.RunSQL.noop),
        migrations.RunSQL("SELECT nb_close_decisions()", migrations.RunSQL.noop),
    ]
