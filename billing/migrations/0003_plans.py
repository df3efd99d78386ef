"""noburn's own plans: what each tenant has, and what of its requests Stripe was told."""

import django.db.models.deletion
from django.db import migrations, models

import tenants.models.base

COMPOSITE_KEYS = """
ALTER TABLE billing_planreport ADD CONSTRAINT billing_planreport_account_same_tenant
    FOREIGN KEY (tenant_id, account_id) REFERENCES billing_planaccount (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;
"""
DROP_COMPOSITE_KEYS = "ALTER TABLE billing_planreport DROP CONSTRAINT billing_planreport_account_same_tenant;"

# A report that may have been sent must be sent again as it was, or not at all.
FROZEN = """
CREATE FUNCTION nb_plan_report_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'a report of a plan is never deleted' USING ERRCODE = 'restrict_violation';
    END IF;
    IF (OLD.id, OLD.tenant_id, OLD.account_id, OLD.hour, OLD.seq, OLD.key, OLD.meter_event, OLD.stripe_customer,
        OLD.requests, OLD.at, OLD.created_at)
        IS DISTINCT FROM
       (NEW.id, NEW.tenant_id, NEW.account_id, NEW.hour, NEW.seq, NEW.key, NEW.meter_event, NEW.stripe_customer,
        NEW.requests, NEW.at, NEW.created_at)
    THEN
        RAISE EXCEPTION 'what a report of a plan says is never altered' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER nb_plan_report_frozen BEFORE UPDATE OR DELETE ON billing_planreport
    FOR EACH ROW EXECUTE FUNCTION nb_plan_report_frozen();
"""
MELTED = "DROP FUNCTION nb_plan_report_frozen() CASCADE;"


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0002_stripe"),
        ("tenants", "0003_calls_refused"),
    ]

    operations = [
        migrations.CreateModel(
            name="PlanAccount",
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
                ("offer", models.CharField(max_length=64)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("free", "Free"),
                            ("trialing", "Trialing"),
                            ("active", "Active"),
                            ("past_due", "Past Due"),
                        ],
                        default="free",
                        max_length=16,
                    ),
                ),
                ("stripe_customer", models.CharField(blank=True, db_default="", max_length=64)),
                ("subscription", models.CharField(blank=True, db_default="", max_length=64)),
                ("meter_event", models.CharField(blank=True, db_default="", max_length=100)),
                ("subscribed_at", models.DateTimeField(blank=True, null=True)),
                ("period_starts_at", models.DateTimeField(blank=True, null=True)),
                ("period_ends_at", models.DateTimeField(blank=True, null=True)),
                ("trial_ends_at", models.DateTimeField(blank=True, null=True)),
                ("trial_used_at", models.DateTimeField(blank=True, null=True)),
                ("cancel_at", models.DateTimeField(blank=True, null=True)),
                ("counted", models.BigIntegerField(default=0)),
                ("counted_from", models.DateTimeField(blank=True, null=True)),
                ("counted_to", models.DateTimeField(blank=True, null=True)),
                ("counted_at", models.DateTimeField(blank=True, null=True)),
                ("refused_until", models.DateTimeField(blank=True, null=True)),
                ("next_report_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(editable=False)),
                ("updated_at", models.DateTimeField()),
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
                        models.OrderBy(models.F("counted_at"), nulls_first=True),
                        name="billing_planaccount_counted",
                    ),
                    models.Index(
                        condition=models.Q(("next_report_at__isnull", False)),
                        fields=["next_report_at"],
                        name="billing_planaccount_report",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant",), name="billing_planaccount_one_per_tenant"),
                    models.UniqueConstraint(
                        condition=models.Q(("stripe_customer", ""), _negated=True),
                        fields=("stripe_customer",),
                        name="billing_planaccount_stripe_customer_once",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["free", "trialing", "active", "past_due"])),
                        name="billing_planaccount_status",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="PlanCursor",
            fields=[
                ("only_row", models.BooleanField(default=True, primary_key=True, serialize=False)),
                ("position", models.BigIntegerField(default=0)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("only_row", True)), name="billing_plancursor_one"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="PlanReport",
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
                ("hour", models.DateTimeField()),
                ("seq", models.SmallIntegerField()),
                ("key", models.CharField(max_length=100, unique=True)),
                ("meter_event", models.CharField(max_length=100)),
                ("stripe_customer", models.CharField(max_length=64)),
                ("requests", models.BigIntegerField()),
                ("at", models.DateTimeField()),
                ("created_at", models.DateTimeField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("delivered", "Delivered"),
                            ("failed", "Failed"),
                            ("unclear", "Unclear"),
                            ("abandoned", "Abandoned"),
                        ],
                        default="pending",
                        max_length=16,
                    ),
                ),
                ("first_sent_at", models.DateTimeField(blank=True, null=True)),
                ("next_attempt_at", models.DateTimeField()),
                ("tries", models.IntegerField(default=0)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("error", models.CharField(blank=True, db_default="", max_length=300)),
                (
                    "account",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="reports",
                        to="billing.planaccount",
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
                        condition=models.Q(("state", "pending")),
                        fields=["next_attempt_at"],
                        name="billing_planreport_due",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "hour", "seq"), name="billing_planreport_seq_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("seq__range", (0, 59)), models.Q(("requests", 0), _negated=True)),
                        name="billing_planreport_says",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("state__in", ["pending", "delivered", "failed", "unclear", "abandoned"])
                        ),
                        name="billing_planreport_state",
                    ),
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="planaccount",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="billing_planaccount_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="planreport",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="billing_planreport_tenant_id"),
        ),
        migrations.RunSQL(COMPOSITE_KEYS, DROP_COMPOSITE_KEYS),
        migrations.RunSQL(FROZEN, MELTED),
    ]
