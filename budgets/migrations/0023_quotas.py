"""Quotas: budgets of one plan's calls, and the plan that refusals suggest. Source: budgets/stores/postgres/sql/grant.sql.

Without a default, so that no row is rewritten.
"""

from pathlib import Path

from django.db import migrations, models

SQL = Path(__file__).resolve().parent.parent / "stores" / "postgres" / "sql"
SCOPES = ("tenant", "project", "customer", "user", "api_key", "model", "provider")
LOCK_SECONDS = 5


def read(name: str) -> migrations.RunSQL:
    """Runs one file whole; there is no way back but to run an older one."""
    return migrations.RunSQL((SQL / f"{name}.sql").read_text(), migrations.RunSQL.noop)


class Migration(migrations.Migration):
    dependencies = [("budgets", "0022_guards")]
    operations = [
        # A lock that is not had soon is given up: settlements wait behind it.
        migrations.RunSQL(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'", migrations.RunSQL.noop),
        migrations.AddField("budget", "plan", models.CharField(blank=True, max_length=200, null=True)),
        migrations.AddField("budget", "upgrade_to", models.CharField(blank=True, max_length=200, null=True)),
        migrations.AddConstraint(
            "budget",
            models.CheckConstraint(
                condition=models.Q(plan__isnull=True, upgrade_to__isnull=True)
                | models.Q(plan__isnull=False, scope__in=SCOPES) & ~models.Q(plan=""),
                name="budgets_budget_quota",
            ),
        ),
        read("grant"),
        read("privileges"),
    ]
