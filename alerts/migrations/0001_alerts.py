"""Tables of alerts, with composite foreign keys: the database refuses a reference across tenants."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

import tenants.models.base

COMPOSITE_KEYS = """
ALTER TABLE alerts_delivery ADD CONSTRAINT alerts_delivery_alert_same_tenant
    FOREIGN KEY (tenant_id, alert_id) REFERENCES alerts_alert (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE alerts_delivery ADD CONSTRAINT alerts_delivery_destination_same_tenant
    FOREIGN KEY (tenant_id, destination_id) REFERENCES alerts_destination (tenant_id, id)
    DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE alerts_attempt ADD CONSTRAINT alerts_attempt_delivery_same_tenant
    FOREIGN KEY (tenant_id, delivery_id) REFERENCES alerts_delivery (tenant_id, id)
    DEFERRABLE INITIALLY DEFERRED;
"""
DROP_COMPOSITE_KEYS = """
ALTER TABLE alerts_attempt DROP CONSTRAINT alerts_attempt_delivery_same_tenant;
ALTER TABLE alerts_delivery DROP CONSTRAINT alerts_delivery_destination_same_tenant;
ALTER TABLE alerts_delivery DROP CONSTRAINT alerts_delivery_alert_same_tenant;
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("tenants", "0001_tenancy"),
    ]

    operations = [
        migrations.CreateModel(
            name="Alert",
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
                    "kind",
                    models.CharField(max_length=32),
                ),
                (
                    "severity",
                    models.CharField(
                        choices=[("info", "info"), ("warning", "warning"), ("critical", "critical")],
                        max_length=16,
                    ),
                ),
                ("dedupe_key", models.CharField(max_length=200)),
                ("subject", models.CharField(max_length=300)),
                ("details", models.JSONField()),
                ("silent", models.BooleanField(default=False)),
                ("raised_at", models.DateTimeField()),
                ("keep_until", models.DateTimeField(blank=True, null=True)),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("silent", False)),
                        fields=["tenant", "-raised_at", "-id"],
                        name="alerts_alert_newest_first",
                    ),
                    models.Index(fields=["keep_until"], name="alerts_alert_keep_until"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id"), name="alerts_alert_tenant_id"),
                    models.UniqueConstraint(
                        fields=("tenant", "dedupe_key"), name="alerts_alert_once", nulls_distinct=False
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("severity__in", ["info", "warning", "critical"])),
                        name="alerts_alert_severity",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("dedupe_key", ""), _negated=True), name="alerts_alert_dedupe_key"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Delivery",
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
                            ("pending", "Pending"),
                            ("delivered", "Delivered"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="pending",
                        max_length=16,
                    ),
                ),
                ("next_attempt_at", models.DateTimeField()),
                ("claim", models.UUIDField(blank=True, editable=False, null=True)),
                ("attempts", models.IntegerField(default=0)),
                ("tries", models.IntegerField(default=0)),
                ("created_at", models.DateTimeField()),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                (
                    "alert",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="deliveries",
                        to="alerts.alert",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "deliveries",
                "indexes": [
                    models.Index(
                        fields=["tenant", "-created_at", "-id"], name="alerts_delivery_newest_first"
                    ),
                    models.Index(fields=["created_at"], name="alerts_delivery_by_age"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id"), name="alerts_delivery_tenant_id"),
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["pending", "delivered", "failed", "cancelled"])),
                        name="alerts_delivery_state",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("finished_at__isnull", True), ("state", "pending")),
                            models.Q(
                                models.Q(("state", "pending"), _negated=True), ("finished_at__isnull", False)
                            ),
                            _connector="OR",
                        ),
                        name="alerts_delivery_finished",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Attempt",
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
                ("number", models.IntegerField()),
                ("started_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("ok", models.BooleanField(default=False)),
                ("status", models.IntegerField(blank=True, null=True)),
                ("ms", models.IntegerField(blank=True, null=True)),
                ("error", models.CharField(blank=True, db_default="", max_length=200)),
                ("excerpt", models.CharField(blank=True, db_default="", max_length=500)),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
                (
                    "delivery",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="history",
                        to="alerts.delivery",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("delivery", "number"), name="alerts_attempt_number_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="Destination",
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
                (
                    "kind",
                    models.CharField(
                        choices=[("email", "Email"), ("slack", "Slack"), ("webhook", "Webhook")],
                        max_length=16,
                    ),
                ),
                ("description", models.CharField(blank=True, db_default="", max_length=200)),
                ("address", models.CharField(max_length=2048)),
                (
                    "alert_kinds",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=32), blank=True, default=list, size=None
                    ),
                ),
                ("secret", models.TextField(blank=True, db_default="", editable=False)),
                ("previous_secret", models.TextField(blank=True, db_default="", editable=False)),
                ("previous_secret_until", models.DateTimeField(blank=True, null=True)),
                ("enabled", models.BooleanField(default=True)),
                (
                    "disabled_because",
                    models.CharField(
                        blank=True,
                        choices=[("person", "Person"), ("gone", "Gone"), ("failing", "Failing")],
                        db_default="",
                        max_length=16,
                    ),
                ),
                ("failures", models.IntegerField(default=0)),
                ("failing_since", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(editable=False)),
                ("updated_at", models.DateTimeField()),
                ("removed_at", models.DateTimeField(blank=True, null=True)),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("removed_at__isnull", True)),
                        fields=["tenant", "created_at", "id"],
                        name="alerts_destination_present",
                    )
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("kind__in", ["email", "slack", "webhook"])),
                        name="alerts_destination_kind",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("kind", "email"),
                            models.Q(("secret", ""), _negated=True),
                            ("removed_at__isnull", False),
                            _connector="OR",
                        ),
                        name="alerts_destination_secret",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("removed_at__isnull", True), ("enabled", False), _connector="OR"),
                        name="alerts_destination_removed_is_off",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("version__gte", 1)), name="alerts_destination_version"
                    ),
                ],
            },
        ),
        migrations.AddField(
            model_name="delivery",
            name="destination",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="deliveries",
                to="alerts.destination",
            ),
        ),
        migrations.AddConstraint(
            model_name="attempt",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="alerts_attempt_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="destination",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="alerts_destination_tenant_id"),
        ),
        migrations.AddIndex(
            model_name="delivery",
            index=models.Index(
                condition=models.Q(("state", "pending")),
                fields=["destination", "next_attempt_at", "id"],
                name="alerts_delivery_due",
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.UniqueConstraint(fields=("alert", "destination"), name="alerts_delivery_once"),
        ),
        migrations.RunSQL(COMPOSITE_KEYS, DROP_COMPOSITE_KEYS),
    ]
