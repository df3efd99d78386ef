"""What customers paid, as tenants report it. Written once by the application, and changed by nobody."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import tenants.models.base

WRITTEN_ONCE = """
DO $$
BEGIN
    IF to_regrole('noburn_app') IS NOT NULL THEN
        REVOKE UPDATE, DELETE ON billing_reportedpayment FROM noburn_app;
    END IF;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0006_plan_report_outcome"),
        ("tenants", "0003_calls_refused"),
    ]

    operations = [
        migrations.CreateModel(
            name="ReportedPayment",
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
                ("project", models.CharField(max_length=64)),
                ("customer", models.CharField(max_length=200)),
                ("amount_nano", models.BigIntegerField()),
                ("occurred_at", models.DateTimeField()),
                ("external_id", models.CharField(blank=True, max_length=200)),
                ("source", models.CharField(blank=True, max_length=200)),
                ("dedupe_key", models.CharField(max_length=64)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
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
                        fields=["tenant", "occurred_at"],
                        include=("customer", "amount_nano"),
                        name="billing_reportedpayment_at",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "id"), name="billing_reportedpayment_tenant_id"
                    ),
                    models.UniqueConstraint(
                        fields=("tenant", "dedupe_key"), name="billing_reportedpayment_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("amount_nano__gte", -9007199254740992), ("amount_nano__lte", 9007199254740992)
                        ),
                        name="billing_reportedpayment_amount",
                    ),
                ],
            },
        ),
        migrations.RunSQL(WRITTEN_ONCE, migrations.RunSQL.noop),
    ]
