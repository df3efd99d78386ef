"""Negotiated prices of tenants, which are only appended and ended, and prices proposed for the book."""

import django.contrib.postgres.constraints
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import budgets.models.prices
import tenants.models.base

# Refuses every change of a negotiated price but an end that comes earlier.
FROZEN = """
CREATE FUNCTION nb_price_overrides_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.effective_to IS NOT NULL AND (OLD.effective_to IS NULL OR NEW.effective_to < OLD.effective_to)
            AND (to_jsonb(OLD) - 'effective_to') = (to_jsonb(NEW) - 'effective_to')
        THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION 'price override % is never edited: end it and append another', OLD.id
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RAISE EXCEPTION 'price overrides are never deleted' USING ERRCODE = 'integrity_constraint_violation';
END $$;
REVOKE ALL ON FUNCTION nb_price_overrides_frozen() FROM PUBLIC;
CREATE TRIGGER price_overrides_frozen BEFORE UPDATE OR DELETE ON price_overrides
    FOR EACH ROW EXECUTE FUNCTION nb_price_overrides_frozen();
DO $$
BEGIN
    IF to_regrole('noburn_app') IS NOT NULL THEN
        REVOKE ALL ON price_overrides, price_proposals FROM noburn_app;
        GRANT SELECT, INSERT ON price_overrides TO noburn_app;
        GRANT UPDATE (effective_to) ON price_overrides TO noburn_app;
        GRANT SELECT, INSERT ON price_proposals TO noburn_app;
        GRANT UPDATE (state, decided_by, decided_at, note, price_row_id) ON price_proposals TO noburn_app;
    END IF;
END $$;
"""
UNDO = "DROP FUNCTION nb_price_overrides_frozen() CASCADE;"


class Migration(migrations.Migration):
    dependencies = [
        ("budgets", "0005_increases"),
        ("tenants", "0001_tenancy"),
    ]

    operations = [
        migrations.CreateModel(
            name="PriceOverride",
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
                ("provider", models.CharField(max_length=100)),
                ("model", models.CharField(max_length=200)),
                (
                    "discount_percent",
                    models.DecimalField(blank=True, decimal_places=4, max_digits=7, null=True),
                ),
                ("prices", models.JSONField(blank=True, null=True)),
                ("effective_from", models.DateTimeField()),
                ("effective_to", models.DateTimeField(blank=True, null=True)),
                ("note", models.CharField(blank=True, default="", max_length=500)),
                ("created_by", models.CharField(max_length=200)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
            ],
            options={
                "db_table": "price_overrides",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("discount_percent__isnull", False), ("prices__isnull", True)),
                            models.Q(("discount_percent__isnull", True), ("prices__isnull", False)),
                            _connector="OR",
                        ),
                        name="price_overrides_one_of_two",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("discount_percent__isnull", True),
                            models.Q(("discount_percent__gte", 0), ("discount_percent__lte", 100)),
                            _connector="OR",
                        ),
                        name="price_overrides_discount",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("effective_to__isnull", True),
                            ("effective_to__gte", models.F("effective_from")),
                            _connector="OR",
                        ),
                        name="price_overrides_period",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("provider", ""), _negated=True), models.Q(("model", ""), _negated=True)
                        ),
                        name="price_overrides_names",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="PriceProposal",
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
                ("provider", models.CharField(max_length=100)),
                ("model", models.CharField(max_length=200)),
                ("variant", models.CharField(blank=True, default="", max_length=64)),
                ("unit", models.CharField(max_length=64)),
                ("tier_start", models.IntegerField(default=0)),
                ("price", models.DecimalField(decimal_places=12, max_digits=20)),
                ("effective_from", models.DateTimeField()),
                ("source", models.CharField(max_length=300)),
                ("new_model", models.BooleanField(default=False)),
                ("proposed_by", models.CharField(max_length=200)),
                ("proposed_at", models.DateTimeField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("proposed", "Proposed"),
                            ("approved", "Approved"),
                            ("rejected", "Rejected"),
                        ],
                        default="proposed",
                        max_length=16,
                    ),
                ),
                ("decided_by", models.CharField(blank=True, default="", max_length=200)),
                ("decided_at", models.DateTimeField(blank=True, null=True)),
                ("note", models.CharField(blank=True, default="", max_length=500)),
            ],
            options={
                "db_table": "price_proposals",
                "indexes": [
                    models.Index(fields=["state", "proposed_at", "id"], name="price_proposals_by_state")
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["proposed", "approved", "rejected"])),
                        name="price_proposals_state",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("state", "proposed")),
                        fields=("provider", "model", "variant", "unit", "tier_start", "effective_from"),
                        name="price_proposals_open_once",
                    ),
                ],
            },
        ),
        migrations.AddField(
            model_name="priceoverride",
            name="tenant",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AddField(
            model_name="priceproposal",
            name="price_row",
            field=models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="budgets.pricerow",
            ),
        ),
        migrations.AddIndex(
            model_name="priceoverride",
            index=models.Index(fields=["tenant", "created_at", "id"], name="price_overrides_of_tenant"),
        ),
        migrations.AddConstraint(
            model_name="priceoverride",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="price_overrides_tenant_id"),
        ),
        migrations.AddConstraint(
            model_name="priceoverride",
            constraint=django.contrib.postgres.constraints.ExclusionConstraint(
                expressions=[
                    ("tenant", "="),
                    ("provider", "="),
                    ("model", "="),
                    (budgets.models.prices.TimeRange("effective_from", "effective_to"), "&&"),
                ],
                name="price_overrides_no_overlap",
            ),
        ),
        migrations.AddConstraint(
            model_name="priceproposal",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("decided_at__isnull", True), ("price_row__isnull", True), ("state", "proposed")
                    ),
                    models.Q(
                        ("decided_at__isnull", False), ("price_row__isnull", False), ("state", "approved")
                    ),
                    models.Q(
                        ("decided_at__isnull", False), ("price_row__isnull", True), ("state", "rejected")
                    ),
                    _connector="OR",
                ),
                name="price_proposals_decided",
            ),
        ),
        migrations.RunSQL(FROZEN, UNDO),
    ]
