"""Wallets as counters: their limits, and what billing tells the policy. Source: budgets/stores/postgres/sql/wallets.sql.

Settlements go on meanwhile: the columns are added without a rewrite.
"""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

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
)
METRICS = ("usd", "tokens", "requests", "charge")
LOCK_SECONDS = 5


def read(name: str) -> migrations.RunSQL:
    """Runs one file whole; there is no way back but to run an older one."""
    return migrations.RunSQL((SQL / f"{name}.sql").read_text(), migrations.RunSQL.noop)


def check(name: str, condition: models.Q) -> migrations.AddConstraint:
    """One condition of a budget's."""
    return migrations.AddConstraint(
        model_name="budget",
        constraint=models.CheckConstraint(condition=condition, name=f"budgets_budget_{name}"),
    )


class Migration(migrations.Migration):
    dependencies = [("budgets", "0016_presumed_requests"), ("tenants", "0002_management_api")]
    operations = [
        # A lock that is not had soon is given up: settlements wait behind it.
        migrations.RunSQL(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'", migrations.RunSQL.noop),
        migrations.CreateModel(
            name="WalletCharges",
            fields=[
                (
                    "tenant",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="tenants.tenant",
                    ),
                ),
                ("body", models.BinaryField()),
                ("changed_at", models.DateTimeField()),
            ],
        ),
        migrations.RemoveConstraint(model_name="budget", name="budgets_budget_scope"),
        migrations.RemoveConstraint(model_name="budget", name="budgets_budget_metric"),
        check("scope", models.Q(scope__in=list(SCOPES))),
        check("metric", models.Q(metric__in=list(METRICS))),
        check(
            "wallet",
            models.Q(scope="wallet", metric="charge", subject="*", window="total", action="block")
            | ~models.Q(scope="wallet") & ~models.Q(metric="charge"),
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.UniqueConstraint(
                condition=models.Q(scope="wallet"), fields=["tenant"], name="budgets_budget_one_of_wallets"
            ),
        ),
        read("wallets"),
        read("publish"),
        read("grant"),
        read("privileges"),
    ]
