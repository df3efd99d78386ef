"""Increases of budgets for a while, and limits that count them. Source: budgets/stores/postgres/sql/grant.sql."""

from pathlib import Path

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import tenants.models.base

SQL = Path(__file__).resolve().parent.parent / "stores" / "postgres" / "sql"

COMPOSITE_KEY = """
ALTER TABLE budgets_budgetincrease ADD CONSTRAINT budgets_budgetincrease_budget_same_tenant
    FOREIGN KEY (tenant_id, budget_id) REFERENCES budgets_budget (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;
"""
DROP_COMPOSITE_KEY = """
ALTER TABLE budgets_budgetincrease DROP CONSTRAINT budgets_budgetincrease_budget_same_tenant;
"""
OPEN = models.Q(("cancelled_at__isnull", True), ("ended_at__isnull", True))


def read(name: str) -> migrations.RunSQL:
    """Runs one file whole; there is no way back but to run an older one."""
    return migrations.RunSQL((SQL / f"{name}.sql").read_text(), migrations.RunSQL.noop)


class Migration(migrations.Migration):
    dependencies = [("budgets", "0004_metering"), ("tenants", "0001_tenancy")]

    operations = [
        migrations.CreateModel(
            name="BudgetIncrease",
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
                ("subject", models.CharField(max_length=300)),
                ("amount", models.BigIntegerField()),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField()),
                ("reason", models.CharField(max_length=500)),
                ("created_by", models.CharField(max_length=200)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("cancelled_at", models.DateTimeField(blank=True, null=True)),
                ("cancelled_by", models.CharField(blank=True, default="", max_length=200)),
                (
                    "budget",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="increases",
                        to="budgets.budget",
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
                "indexes": [
                    models.Index(
                        fields=["tenant", "budget", "created_at", "id"], name="budgets_increase_of_budget"
                    ),
                    models.Index(
                        condition=OPEN, fields=["tenant", "budget", "subject"], name="budgets_increase_open"
                    ),
                    models.Index(condition=OPEN, fields=["ends_at"], name="budgets_increase_to_end"),
                    models.Index(
                        condition=models.Q(
                            ("cancelled_at__isnull", True),
                            ("ended_at__isnull", True),
                            ("started_at__isnull", True),
                        ),
                        fields=["starts_at"],
                        name="budgets_increase_to_start",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id"), name="budgets_budgetincrease_tenant_id"),
                    models.CheckConstraint(
                        condition=models.Q(("amount__gte", 1), ("amount__lte", 9007199254740992)),
                        name="budgets_budgetincrease_amount",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("ends_at__gt", models.F("starts_at"))),
                        name="budgets_budgetincrease_period",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("subject", ""), _negated=True), models.Q(("reason", ""), _negated=True)
                        ),
                        name="budgets_budgetincrease_texts",
                    ),
                ],
            },
        ),
        migrations.RunSQL(COMPOSITE_KEY, DROP_COMPOSITE_KEY),
        read("grant"),
        read("privileges"),
    ]
