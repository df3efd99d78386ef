"""Re-ratings, their items, and the function that applies them. Source: budgets/stores/postgres/sql/rerating.sql."""

from pathlib import Path

import django.db.models.deletion
from django.db import migrations, models

import tenants.models.base

SQL = Path(__file__).resolve().parent.parent / "stores" / "postgres" / "sql"


def read(name: str) -> migrations.RunSQL:
    """Runs one file whole; there is no way back but to run an older one."""
    return migrations.RunSQL((SQL / f"{name}.sql").read_text(), migrations.RunSQL.noop)


class Migration(migrations.Migration):
    dependencies = [
        ("budgets", "0013_cost_origin"),
        ("tenants", "0002_management_api"),
    ]

    operations = [
        migrations.CreateModel(
            name="Rerating",
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
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("previewing", "Previewing"),
                            ("previewed", "Previewed"),
                            ("applying", "Applying"),
                            ("applied", "Applied"),
                            ("expired", "Expired"),
                            ("failed", "Failed"),
                        ],
                        default="previewing",
                        max_length=16,
                    ),
                ),
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField()),
                ("provider", models.CharField(blank=True, default="", max_length=200)),
                ("model", models.CharField(blank=True, default="", max_length=200)),
                ("customer", models.CharField(blank=True, default="", max_length=200)),
                ("project", models.CharField(blank=True, default="", max_length=200)),
                ("prices_at", models.DateTimeField(blank=True, null=True)),
                ("reason", models.CharField(max_length=500)),
                ("created_by", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField()),
                ("book_version", models.BigIntegerField(null=True)),
                ("overrides_digest", models.CharField(blank=True, default="", max_length=64)),
                ("cursor_at", models.DateTimeField(null=True)),
                ("cursor_hold", models.UUIDField(null=True)),
                ("seen_calls", models.BigIntegerField(default=0)),
                ("seen_digest", models.BigIntegerField(default=0)),
                ("changed_calls", models.BigIntegerField(default=0)),
                ("unchanged_calls", models.BigIntegerField(default=0)),
                ("old_nano", models.BigIntegerField(default=0)),
                ("new_nano", models.BigIntegerField(default=0)),
                ("left_out", models.JSONField(default=dict)),
                ("by_model", models.JSONField(default=list)),
                ("by_customer", models.JSONField(default=list)),
                ("model_count", models.BigIntegerField(default=0)),
                ("customer_count", models.BigIntegerField(default=0)),
                ("previewed_at", models.DateTimeField(null=True)),
                ("applied_by", models.CharField(blank=True, default="", max_length=200)),
                ("applied_at", models.DateTimeField(null=True)),
                ("applied_through", models.UUIDField(null=True)),
                ("applied_calls", models.BigIntegerField(default=0)),
                ("moved_calls", models.BigIntegerField(default=0)),
                ("applied_nano", models.BigIntegerField(default=0)),
                ("finished_at", models.DateTimeField(null=True)),
                ("failure", models.CharField(blank=True, default="", max_length=500)),
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
                "db_table": "reratings",
                "indexes": [
                    models.Index(fields=["tenant", "created_at", "id"], name="reratings_of_tenant"),
                    models.Index(
                        condition=models.Q(("state__in", ("previewing", "applying"))),
                        fields=["created_at", "id"],
                        name="reratings_at_work",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id"), name="reratings_tenant_id"),
                    models.UniqueConstraint(
                        condition=models.Q(("state__in", ("previewing", "previewed", "applying"))),
                        fields=("tenant",),
                        name="reratings_one_open",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "state__in",
                                ["previewing", "previewed", "applying", "applied", "expired", "failed"],
                            )
                        ),
                        name="reratings_state",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("ends_at__gt", models.F("starts_at"))), name="reratings_period"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("reason", ""), _negated=True),
                            models.Q(("created_by", ""), _negated=True),
                        ),
                        name="reratings_who_and_why",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state__in", ("applying", "applied")), _negated=True),
                            models.Q(
                                ("applied_at__isnull", False),
                                ("previewed_at__isnull", False),
                                models.Q(("applied_by", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="reratings_applied",
                    ),
                ],
            },
        ),
        read("rerating"),
        read("privileges"),
    ]
