"""Stripe: accounts, links, the outbox, the inbox, invoices; composite keys, and a payload that nobody alters."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models

import tenants.models.base

COMPOSITE_KEYS = """
ALTER TABLE billing_stripelink ADD CONSTRAINT billing_stripelink_customer_same_tenant
    FOREIGN KEY (tenant_id, customer_id) REFERENCES tenants_customer (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE billing_billingperiod ADD CONSTRAINT billing_period_customer_same_tenant
    FOREIGN KEY (tenant_id, customer_id) REFERENCES tenants_customer (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE billing_measurement ADD CONSTRAINT billing_measurement_customer_same_tenant
    FOREIGN KEY (tenant_id, customer_id) REFERENCES tenants_customer (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE billing_measurement ADD CONSTRAINT billing_measurement_period_same_tenant
    FOREIGN KEY (tenant_id, period_id) REFERENCES billing_billingperiod (tenant_id, id)
    DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE billing_measurement ADD CONSTRAINT billing_measurement_carried_from_same_tenant
    FOREIGN KEY (tenant_id, carried_from_id) REFERENCES billing_billingperiod (tenant_id, id)
    DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE billing_reconciliation ADD CONSTRAINT billing_reconciliation_customer_same_tenant
    FOREIGN KEY (tenant_id, customer_id) REFERENCES tenants_customer (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE billing_reconciliation ADD CONSTRAINT billing_reconciliation_period_same_tenant
    FOREIGN KEY (tenant_id, period_id) REFERENCES billing_billingperiod (tenant_id, id)
    DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE billing_stripeinvoice ADD CONSTRAINT billing_stripeinvoice_customer_same_tenant
    FOREIGN KEY (tenant_id, customer_id) REFERENCES tenants_customer (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE billing_creditnote ADD CONSTRAINT billing_creditnote_invoice_same_tenant
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES billing_stripeinvoice (tenant_id, id)
    DEFERRABLE INITIALLY DEFERRED;
"""
DROP_COMPOSITE_KEYS = """
ALTER TABLE billing_creditnote DROP CONSTRAINT billing_creditnote_invoice_same_tenant;
ALTER TABLE billing_stripeinvoice DROP CONSTRAINT billing_stripeinvoice_customer_same_tenant;
ALTER TABLE billing_reconciliation DROP CONSTRAINT billing_reconciliation_period_same_tenant;
ALTER TABLE billing_reconciliation DROP CONSTRAINT billing_reconciliation_customer_same_tenant;
ALTER TABLE billing_measurement DROP CONSTRAINT billing_measurement_carried_from_same_tenant;
ALTER TABLE billing_measurement DROP CONSTRAINT billing_measurement_period_same_tenant;
ALTER TABLE billing_measurement DROP CONSTRAINT billing_measurement_customer_same_tenant;
ALTER TABLE billing_billingperiod DROP CONSTRAINT billing_period_customer_same_tenant;
ALTER TABLE billing_stripelink DROP CONSTRAINT billing_stripelink_customer_same_tenant;
"""

# A measurement that may have been sent must be sent again as it was, or not at all.
FROZEN = """
CREATE FUNCTION nb_measurement_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'a measurement is never deleted' USING ERRCODE = 'restrict_violation';
    END IF;
    IF (OLD.id, OLD.tenant_id, OLD.customer_id, OLD.period_id, OLD.kind, OLD.carried_from_id, OLD.window_starts_at,
        OLD.seq, OLD.key, OLD.meter_event, OLD.stripe_customer, OLD.value_micro, OLD.at, OLD.owed_nano, OLD.created_at)
        IS DISTINCT FROM
       (NEW.id, NEW.tenant_id, NEW.customer_id, NEW.period_id, NEW.kind, NEW.carried_from_id, NEW.window_starts_at,
        NEW.seq, NEW.key, NEW.meter_event, NEW.stripe_customer, NEW.value_micro, NEW.at, NEW.owed_nano, NEW.created_at)
    THEN
        RAISE EXCEPTION 'what a measurement says is never altered' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER billing_measurement_frozen BEFORE UPDATE OR DELETE ON billing_measurement
    FOR EACH ROW EXECUTE FUNCTION nb_measurement_frozen();
"""
MELTED = """
DROP TRIGGER billing_measurement_frozen ON billing_measurement;
DROP FUNCTION nb_measurement_frozen();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0001_rate_cards"),
        ("tenants", "0002_management_api"),
    ]

    operations = [
        migrations.CreateModel(
            name="BillingPeriod",
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
                ("starts_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField()),
                ("stripe_starts_at", models.DateTimeField(blank=True, null=True)),
                ("stripe_ends_at", models.DateTimeField(blank=True, null=True)),
                ("owed_nano", models.BigIntegerField(default=0)),
                ("owed_until", models.DateTimeField(blank=True, null=True)),
                ("closed_at", models.DateTimeField(blank=True, null=True)),
                ("invoice", models.CharField(blank=True, db_default="", max_length=64)),
                ("invoiced_micro", models.BigIntegerField(blank=True, null=True)),
                (
                    "customer",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.customer",
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
                    models.UniqueConstraint(
                        fields=("tenant", "customer", "starts_at"), name="billing_period_starts_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("starts_at__lt", models.F("ends_at"))),
                        name="billing_period_runs_forward",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Measurement",
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
                ("kind", models.CharField(choices=[("usage", "Usage"), ("carry", "Carry")], max_length=16)),
                ("window_starts_at", models.DateTimeField()),
                ("seq", models.SmallIntegerField()),
                ("key", models.CharField(max_length=100, unique=True)),
                ("meter_event", models.CharField(max_length=100)),
                ("stripe_customer", models.CharField(max_length=64)),
                ("value_micro", models.BigIntegerField()),
                ("at", models.DateTimeField()),
                ("owed_nano", models.BigIntegerField()),
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
                ("outcome", models.CharField(blank=True, db_default="", max_length=16)),
                ("error", models.CharField(blank=True, db_default="", max_length=300)),
                (
                    "carried_from",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="carried",
                        to="billing.billingperiod",
                    ),
                ),
                (
                    "customer",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.customer",
                    ),
                ),
                (
                    "period",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="measurements",
                        to="billing.billingperiod",
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
                        fields=["tenant", "customer", "window_starts_at", "seq"],
                        name="billing_measurement_waiting",
                    ),
                    models.Index(fields=["period", "state"], name="billing_measurement_period"),
                    models.Index(
                        condition=models.Q(("carried_from__isnull", False)),
                        fields=["carried_from", "state"],
                        name="billing_measurement_carried",
                    ),
                    models.Index(fields=["tenant", "-id"], name="billing_measurement_newest"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "customer", "window_starts_at", "seq"),
                        name="billing_measurement_seq_once",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("value_micro__range", (-999999999999999, 999999999999999)),
                            models.Q(("value_micro", 0), _negated=True),
                        ),
                        name="billing_measurement_value",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("carried_from__isnull", True), ("kind", "usage")),
                            models.Q(("carried_from__isnull", False), ("kind", "carry")),
                            _connector="OR",
                        ),
                        name="billing_measurement_kind",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("state__in", ["pending", "delivered", "failed", "unclear", "abandoned"])
                        ),
                        name="billing_measurement_state",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("seq__range", (0, 59))), name="billing_measurement_seq"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("finished_at__isnull", True), ("state", "pending")),
                            models.Q(
                                models.Q(("state", "pending"), _negated=True), ("finished_at__isnull", False)
                            ),
                            _connector="OR",
                        ),
                        name="billing_measurement_finished",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Reconciliation",
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
                ("owed_nano", models.BigIntegerField()),
                ("told_micro", models.BigIntegerField()),
                ("delivered_micro", models.BigIntegerField()),
                ("measured_micro", models.BigIntegerField(blank=True, null=True)),
                ("invoiced_micro", models.BigIntegerField(blank=True, null=True)),
                ("differences", models.JSONField(default=list)),
                ("unexplained_micro", models.BigIntegerField()),
                ("agrees", models.BooleanField()),
                ("checked_at", models.DateTimeField()),
                (
                    "customer",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.customer",
                    ),
                ),
                (
                    "period",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="reconciliation",
                        to="billing.billingperiod",
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
                    models.Index(fields=["tenant", "-id"], name="billing_reconciliation_newest"),
                    models.Index(
                        condition=models.Q(("agrees", False)),
                        fields=["tenant"],
                        name="billing_reconciliation_off",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id"), name="billing_reconciliation_tenant_id")
                ],
            },
        ),
        migrations.CreateModel(
            name="StripeAccount",
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
                ("mode", models.CharField(choices=[("key", "Key"), ("connect", "Connect")], max_length=16)),
                ("secret_key", models.TextField(blank=True, db_default="", editable=False)),
                ("key_last4", models.CharField(blank=True, db_default="", max_length=4)),
                ("account", models.CharField(blank=True, db_default="", max_length=64)),
                ("livemode", models.BooleanField(default=False)),
                (
                    "webhook_secrets",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.TextField(), blank=True, default=list, editable=False, size=None
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("ready", "Ready"),
                            ("failed", "Failed"),
                            ("disconnected", "Disconnected"),
                        ],
                        default="pending",
                        max_length=16,
                    ),
                ),
                ("problem", models.CharField(blank=True, db_default="", max_length=300)),
                ("meter_id", models.CharField(blank=True, db_default="", max_length=64)),
                ("meter_event", models.CharField(blank=True, db_default="", max_length=100)),
                ("product_id", models.CharField(blank=True, db_default="", max_length=64)),
                ("price_id", models.CharField(blank=True, db_default="", max_length=64)),
                ("suspend_delinquent", models.BooleanField(default=False)),
                ("billed_from", models.DateTimeField()),
                ("tries", models.IntegerField(default=0)),
                ("next_attempt_at", models.DateTimeField()),
                ("paused_until", models.DateTimeField(blank=True, null=True)),
                ("bucket_tokens", models.IntegerField(default=0)),
                ("bucket_at", models.DateTimeField()),
                ("created_at", models.DateTimeField(editable=False)),
                ("updated_at", models.DateTimeField()),
                ("ready_at", models.DateTimeField(blank=True, null=True)),
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
                        name="billing_stripeaccount_due",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant",), name="billing_stripeaccount_one_per_tenant"),
                    models.UniqueConstraint(
                        condition=models.Q(
                            ("mode", "connect"), models.Q(("state", "disconnected"), _negated=True)
                        ),
                        fields=("account",),
                        name="billing_stripeaccount_account_once",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("account", ""), ("mode", "key")),
                            models.Q(
                                ("mode", "connect"),
                                ("secret_key", ""),
                                models.Q(("account", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="billing_stripeaccount_mode",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["pending", "ready", "failed", "disconnected"])),
                        name="billing_stripeaccount_state",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("webhook_secrets__len__lte", 4)),
                        name="billing_stripeaccount_webhook_secrets",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="StripeEvent",
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
                ("event_id", models.CharField(max_length=100)),
                ("type", models.CharField(max_length=100)),
                ("payload", models.JSONField()),
                ("livemode", models.BooleanField()),
                ("happened_at", models.DateTimeField()),
                ("received_at", models.DateTimeField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("handled", "Handled"),
                            ("ignored", "Ignored"),
                            ("failed", "Failed"),
                        ],
                        default="pending",
                        max_length=16,
                    ),
                ),
                ("tries", models.IntegerField(default=0)),
                ("next_attempt_at", models.DateTimeField()),
                ("handled_at", models.DateTimeField(blank=True, null=True)),
                ("error", models.CharField(blank=True, db_default="", max_length=300)),
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
                        condition=models.Q(("state", "pending")),
                        fields=["next_attempt_at"],
                        name="billing_stripeevent_due",
                    ),
                    models.Index(fields=["received_at"], name="billing_stripeevent_by_age"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "event_id"), name="billing_stripeevent_once", nulls_distinct=False
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["pending", "handled", "ignored", "failed"])),
                        name="billing_stripeevent_state",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="StripeInvoice",
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
                ("stripe_id", models.CharField(max_length=64)),
                ("number", models.CharField(blank=True, db_default="", max_length=64)),
                ("status", models.CharField(max_length=32)),
                ("billing_reason", models.CharField(blank=True, db_default="", max_length=64)),
                ("subscription", models.CharField(blank=True, db_default="", max_length=64)),
                ("currency", models.CharField(max_length=3)),
                ("total", models.BigIntegerField()),
                ("amount_due", models.BigIntegerField()),
                ("amount_paid", models.BigIntegerField()),
                ("usage_micro", models.BigIntegerField(blank=True, null=True)),
                ("period_starts_at", models.DateTimeField(blank=True, null=True)),
                ("period_ends_at", models.DateTimeField(blank=True, null=True)),
                ("finalized_at", models.DateTimeField(blank=True, null=True)),
                ("due_at", models.DateTimeField(blank=True, null=True)),
                ("attempts", models.IntegerField(default=0)),
                ("hosted_url", models.CharField(blank=True, db_default="", max_length=2048)),
                ("pdf_url", models.CharField(blank=True, db_default="", max_length=2048)),
                ("created_at", models.DateTimeField()),
                ("seen_at", models.DateTimeField()),
                (
                    "customer",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.customer",
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
                        fields=["tenant", "customer", "-created_at"], name="billing_stripeinvoice_of"
                    ),
                    models.Index(fields=["tenant", "-id"], name="billing_stripeinvoice_newest"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "stripe_id"), name="billing_stripeinvoice_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="CreditNote",
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
                ("amount", models.BigIntegerField()),
                (
                    "reason",
                    models.CharField(
                        choices=[
                            ("duplicate", "Duplicate"),
                            ("fraudulent", "Fraudulent"),
                            ("order_change", "Order Change"),
                            ("product_unsatisfactory", "Product Unsatisfactory"),
                        ],
                        max_length=32,
                    ),
                ),
                ("memo", models.CharField(blank=True, db_default="", max_length=300)),
                ("refund", models.BooleanField(default=False)),
                (
                    "state",
                    models.CharField(
                        choices=[("pending", "Pending"), ("issued", "Issued"), ("failed", "Failed")],
                        default="pending",
                        max_length=16,
                    ),
                ),
                ("stripe_id", models.CharField(blank=True, db_default="", max_length=64)),
                ("number", models.CharField(blank=True, db_default="", max_length=64)),
                ("problem", models.CharField(blank=True, db_default="", max_length=300)),
                ("first_sent_at", models.DateTimeField(blank=True, null=True)),
                ("tries", models.IntegerField(default=0)),
                ("next_attempt_at", models.DateTimeField()),
                ("created_by", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField()),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
                (
                    "invoice",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="credit_notes",
                        to="billing.stripeinvoice",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["invoice", "-id"], name="billing_creditnote_of"),
                    models.Index(
                        condition=models.Q(("state", "pending")),
                        fields=["next_attempt_at"],
                        name="billing_creditnote_due",
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("amount__gt", 0)), name="billing_creditnote_amount"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["pending", "issued", "failed"])),
                        name="billing_creditnote_state",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "reason__in",
                                ["duplicate", "fraudulent", "order_change", "product_unsatisfactory"],
                            )
                        ),
                        name="billing_creditnote_reason",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="StripeLink",
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
                    "state",
                    models.CharField(
                        choices=[("pending", "Pending"), ("linked", "Linked"), ("failed", "Failed")],
                        default="pending",
                        max_length=16,
                    ),
                ),
                ("email", models.CharField(blank=True, db_default="", max_length=254)),
                ("stripe_customer", models.CharField(blank=True, db_default="", max_length=64)),
                ("subscription", models.CharField(blank=True, db_default="", max_length=64)),
                ("subscription_status", models.CharField(blank=True, db_default="", max_length=32)),
                ("wants_subscription", models.BooleanField(default=True)),
                ("period_starts_at", models.DateTimeField(blank=True, null=True)),
                ("period_ends_at", models.DateTimeField(blank=True, null=True)),
                ("frozen_until", models.DateTimeField(blank=True, null=True)),
                ("next_freeze_at", models.DateTimeField(blank=True, null=True)),
                ("problem", models.CharField(blank=True, db_default="", max_length=300)),
                ("tries", models.IntegerField(default=0)),
                ("next_attempt_at", models.DateTimeField()),
                ("delinquent_at", models.DateTimeField(blank=True, null=True)),
                ("suspended", models.BooleanField(default=False)),
                ("reconciled_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField(editable=False)),
                ("updated_at", models.DateTimeField()),
                (
                    "customer",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.customer",
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
                        name="billing_stripelink_due",
                    ),
                    models.Index(
                        condition=models.Q(("state", "linked")),
                        fields=["next_freeze_at"],
                        name="billing_stripelink_freeze",
                    ),
                    models.Index(
                        models.OrderBy(models.F("reconciled_at"), nulls_first=True),
                        name="billing_stripelink_reconciled",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "customer"), name="billing_stripelink_one_per_customer"
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("stripe_customer", ""), _negated=True),
                        fields=("tenant", "stripe_customer"),
                        name="billing_stripelink_stripe_customer_once",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["pending", "linked", "failed"])),
                        name="billing_stripelink_state",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state", "linked"), _negated=True),
                            models.Q(("stripe_customer", ""), _negated=True),
                            _connector="OR",
                        ),
                        name="billing_stripelink_linked",
                    ),
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="billingperiod",
            constraint=models.UniqueConstraint(
                fields=("tenant", "id"), name="billing_billingperiod_tenant_id"
            ),
        ),
        migrations.AddConstraint(
            model_name="measurement",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="billing_measurement_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="stripeaccount",
            constraint=models.UniqueConstraint(
                fields=("tenant", "id"), name="billing_stripeaccount_tenant_id"
            ),
        ),
        migrations.AddConstraint(
            model_name="stripeevent",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="billing_stripeevent_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="stripeinvoice",
            constraint=models.UniqueConstraint(
                fields=("tenant", "id"), name="billing_stripeinvoice_tenant_id"
            ),
        ),
        migrations.AddConstraint(
            model_name="creditnote",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="billing_creditnote_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="stripelink",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="billing_stripelink_tenant_id"),
        ),
        migrations.RunSQL(COMPOSITE_KEYS, DROP_COMPOSITE_KEYS),
        migrations.RunSQL(FROZEN, MELTED),
    ]
