"""Rate cards, their versions and assignments, and approvals of presumed spending: appended, never edited."""

import django.db.models.deletion
from django.db import migrations, models

import tenants.models.base

COMPOSITE_KEYS = """
ALTER TABLE rate_card_versions ADD CONSTRAINT rate_card_versions_card_same_tenant
    FOREIGN KEY (tenant_id, card_id) REFERENCES rate_cards (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE rate_card_assignments ADD CONSTRAINT rate_card_assignments_card_same_tenant
    FOREIGN KEY (tenant_id, card_id) REFERENCES rate_cards (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;
"""
DROP_COMPOSITE_KEYS = """
ALTER TABLE rate_card_assignments DROP CONSTRAINT rate_card_assignments_card_same_tenant;
ALTER TABLE rate_card_versions DROP CONSTRAINT rate_card_versions_card_same_tenant;
"""

# What was billed by a version must be what anybody reads there later. It may be withdrawn while it has not begun, once.
FROZEN = """
CREATE FUNCTION nb_rate_cards_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND to_jsonb(OLD) ? 'withdrawn_at' THEN
        IF to_jsonb(OLD) -> 'withdrawn_at' = 'null' AND to_jsonb(NEW) -> 'withdrawn_at' <> 'null'
            AND (to_jsonb(OLD) - 'withdrawn_at') = (to_jsonb(NEW) - 'withdrawn_at')
        THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION '% is never edited: append another row', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
REVOKE ALL ON FUNCTION nb_rate_cards_frozen() FROM PUBLIC;
CREATE TRIGGER rate_card_versions_frozen BEFORE UPDATE OR DELETE ON rate_card_versions
    FOR EACH ROW EXECUTE FUNCTION nb_rate_cards_frozen();
CREATE TRIGGER rate_card_assignments_frozen BEFORE UPDATE OR DELETE ON rate_card_assignments
    FOR EACH ROW EXECUTE FUNCTION nb_rate_cards_frozen();
CREATE TRIGGER presumed_approvals_frozen BEFORE UPDATE OR DELETE ON presumed_approvals
    FOR EACH ROW EXECUTE FUNCTION nb_rate_cards_frozen();
DO $$
BEGIN
    IF to_regrole('noburn_app') IS NOT NULL THEN
        REVOKE ALL ON rate_cards, rate_card_versions, rate_card_assignments, presumed_approvals FROM noburn_app;
        GRANT SELECT, INSERT ON rate_cards, rate_card_versions, rate_card_assignments, presumed_approvals TO noburn_app;
        GRANT UPDATE (name) ON rate_cards TO noburn_app;
        GRANT UPDATE (withdrawn_at) ON rate_card_versions, rate_card_assignments TO noburn_app;
    END IF;
END $$;
"""
UNDO = "DROP FUNCTION nb_rate_cards_frozen() CASCADE;"


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("budgets", "0016_presumed_requests"),
        ("tenants", "0002_management_api"),
    ]

    operations = [
        migrations.CreateModel(
            name="RateCard",
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
                ("name", models.CharField(max_length=200)),
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
            ],
            options={
                "db_table": "rate_cards",
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id"), name="rate_cards_tenant_id"),
                    models.UniqueConstraint(fields=("tenant", "name"), name="rate_cards_name_once"),
                    models.CheckConstraint(
                        condition=models.Q(("name", ""), _negated=True), name="rate_cards_name"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="RateCardAssignment",
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
                ("customer", models.CharField(blank=True, db_collation="C", default="", max_length=200)),
                ("effective_from", models.DateTimeField()),
                ("note", models.CharField(blank=True, default="", max_length=500)),
                ("created_by", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField()),
                ("withdrawn_at", models.DateTimeField(blank=True, null=True)),
                (
                    "card",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="billing.ratecard",
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
                "db_table": "rate_card_assignments",
                "indexes": [
                    models.Index(
                        fields=["tenant", "card", "effective_from"], name="rate_card_assignments_by_card"
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id"), name="rate_card_assignments_tenant_id"),
                    models.UniqueConstraint(
                        condition=models.Q(("withdrawn_at__isnull", True)),
                        fields=("tenant", "customer", "effective_from"),
                        name="rate_card_assignments_time_once",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("withdrawn_at__isnull", True),
                            ("withdrawn_at__lte", models.F("effective_from")),
                            _connector="OR",
                        ),
                        name="rate_card_assignments_withdrawn_before",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="RateCardVersion",
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
                ("effective_from", models.DateTimeField()),
                ("terms", models.JSONField()),
                ("note", models.CharField(blank=True, default="", max_length=500)),
                ("created_by", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField()),
                ("withdrawn_at", models.DateTimeField(blank=True, null=True)),
                (
                    "card",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="versions",
                        to="billing.ratecard",
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
                "db_table": "rate_card_versions",
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id"), name="rate_card_versions_tenant_id"),
                    models.UniqueConstraint(
                        fields=("tenant", "card", "number"), name="rate_card_versions_number_once"
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("withdrawn_at__isnull", True)),
                        fields=("tenant", "card", "effective_from"),
                        name="rate_card_versions_time_once",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("number__gte", 1)), name="rate_card_versions_number"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("withdrawn_at__isnull", True),
                            ("withdrawn_at__lte", models.F("effective_from")),
                            _connector="OR",
                        ),
                        name="rate_card_versions_withdrawn_before",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="PresumedApproval",
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
                ("hold_id", models.UUIDField()),
                ("placed_month", models.DateField()),
                ("placed_at", models.DateTimeField()),
                ("customer", models.CharField(blank=True, db_collation="C", max_length=200)),
                ("provider", models.CharField(blank=True, max_length=200)),
                ("model", models.CharField(blank=True, max_length=200)),
                ("cost_nano", models.BigIntegerField()),
                ("requests", models.SmallIntegerField()),
                ("reason", models.CharField(max_length=500)),
                ("approved_by", models.CharField(max_length=200)),
                ("approved_at", models.DateTimeField()),
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
                "db_table": "presumed_approvals",
                "indexes": [
                    models.Index(
                        fields=["tenant", "customer", "placed_at"], name="presumed_approvals_of_customer"
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id"), name="presumed_approvals_tenant_id"),
                    models.UniqueConstraint(
                        fields=("tenant", "hold_id"), name="presumed_approvals_hold_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("reason", ""), _negated=True),
                            models.Q(("approved_by", ""), _negated=True),
                        ),
                        name="presumed_approvals_who_and_why",
                    ),
                ],
            },
        ),
        migrations.RunSQL(COMPOSITE_KEYS, DROP_COMPOSITE_KEYS),
        migrations.RunSQL(FROZEN, UNDO),
    ]
