"""Wallets, their credit, its journal, what calls took, and payments. A posting adds up to nothing and is never edited."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import tenants.models.base

OWNED = ("creditgrant", "journalposting", "journalline", "wallethold", "topup")
COMPOSITE_KEYS = (
    "\n".join(
        f"""ALTER TABLE billing_{table} ADD CONSTRAINT billing_{table}_wallet_same_tenant
    FOREIGN KEY (tenant_id, wallet_id) REFERENCES billing_wallet (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;"""
        for table in OWNED
    )
    + """
ALTER TABLE billing_journalline ADD CONSTRAINT billing_journalline_posting_same_tenant
    FOREIGN KEY (tenant_id, posting_id) REFERENCES billing_journalposting (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE billing_journalline ADD CONSTRAINT billing_journalline_grant_same_tenant
    FOREIGN KEY (tenant_id, grant_id) REFERENCES billing_creditgrant (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE billing_wallet ADD CONSTRAINT billing_wallet_wallets_same_tenant
    FOREIGN KEY (tenant_id, wallets_id) REFERENCES budgets_budget (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;
"""
)

# Both are looked at when the transaction commits: a posting and its lines are written one after the other.
JOURNAL = """
CREATE FUNCTION nb_journal_adds_up() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_sum numeric;
BEGIN
    SELECT coalesce(sum(l.amount_nano), 0) INTO v_sum FROM billing_journalline l
    WHERE l.tenant_id = NEW.tenant_id AND l.posting_id = NEW.posting_id;
    IF v_sum <> 0 THEN
        RAISE EXCEPTION 'the lines of posting % add up to %, not to nothing', NEW.posting_id, v_sum
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION nb_journal_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is never edited: post another', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;
REVOKE ALL ON FUNCTION nb_journal_adds_up(), nb_journal_frozen() FROM PUBLIC;
CREATE CONSTRAINT TRIGGER billing_journalline_adds_up AFTER INSERT ON billing_journalline
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION nb_journal_adds_up();
CREATE TRIGGER billing_journalline_frozen BEFORE UPDATE OR DELETE ON billing_journalline
    FOR EACH ROW EXECUTE FUNCTION nb_journal_frozen();
CREATE TRIGGER billing_journalposting_frozen BEFORE UPDATE OR DELETE ON billing_journalposting
    FOR EACH ROW EXECUTE FUNCTION nb_journal_frozen();
DO $$
BEGIN
    IF to_regrole('noburn_app') IS NOT NULL THEN
        REVOKE ALL ON billing_journalposting, billing_journalline FROM noburn_app;
        GRANT SELECT, INSERT ON billing_journalposting, billing_journalline TO noburn_app;
        REVOKE DELETE ON billing_wallet, billing_creditgrant, billing_topup, billing_wallethold FROM noburn_app;
    END IF;
END $$;
"""
UNDO = "DROP FUNCTION nb_journal_adds_up() CASCADE; DROP FUNCTION nb_journal_frozen() CASCADE;"


class Migration(migrations.Migration):
    dependencies = [
        ("budgets", "0017_wallets"),
        ("billing", "0003_plans"),
        ("tenants", "0002_management_api"),
    ]

    operations = [
        migrations.CreateModel(
            name="CreditGrant",
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
                    models.CharField(
                        choices=[("paid", "Paid"), ("promotional", "Promotional")], max_length=16
                    ),
                ),
                ("amount_nano", models.BigIntegerField()),
                ("remaining_nano", models.BigIntegerField()),
                ("priority", models.SmallIntegerField()),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("reason", models.CharField(blank=True, default="", max_length=500)),
                ("payment_id", models.CharField(blank=True, max_length=255, null=True)),
                ("created_by", models.CharField(max_length=200)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                ("voided_at", models.DateTimeField(blank=True, null=True)),
                ("void_reason", models.CharField(blank=True, default="", max_length=500)),
                ("voided_by", models.CharField(blank=True, default="", max_length=200)),
                ("ended_at", models.DateTimeField(blank=True, null=True)),
                ("refund_wanted", models.BooleanField(default=False)),
                ("refund_id", models.CharField(blank=True, default="", max_length=255)),
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
                        condition=models.Q(("expires_at__isnull", False), ("remaining_nano__gt", 0)),
                        fields=["expires_at"],
                        name="billing_grant_to_expire",
                    ),
                    models.Index(
                        condition=models.Q(("remaining_nano__gt", 0), ("voided_at__isnull", False)),
                        fields=["voided_at"],
                        name="billing_grant_to_void",
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("amount_nano__gte", 1), ("amount_nano__lte", 9007199254740992)),
                        name="billing_creditgrant_amount",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("remaining_nano__gte", 0), ("remaining_nano__lte", models.F("amount_nano"))
                        ),
                        name="billing_creditgrant_remaining",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("priority__gte", 0), ("priority__lte", 100)),
                        name="billing_creditgrant_priority",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("kind__in", ["paid", "promotional"])),
                        name="billing_creditgrant_kind",
                    ),
                    models.UniqueConstraint(
                        fields=("tenant", "payment_id"), name="billing_creditgrant_payment"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Wallet",
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
                ("wallets_id", models.UUIDField()),
                ("customer", models.CharField(max_length=200)),
                ("burnt_nano", models.BigIntegerField(default=0)),
                ("owed_nano", models.BigIntegerField(default=0)),
                ("low_nano", models.BigIntegerField(blank=True, null=True)),
                ("low_told_at", models.DateTimeField(blank=True, null=True)),
                ("auto_threshold_nano", models.BigIntegerField(blank=True, null=True)),
                ("auto_amount_nano", models.BigIntegerField(blank=True, null=True)),
                ("auto_monthly_max_nano", models.BigIntegerField(blank=True, null=True)),
                ("auto_failures", models.SmallIntegerField(default=0)),
                ("auto_retry_at", models.DateTimeField(blank=True, null=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
                ("closed_at", models.DateTimeField(blank=True, null=True)),
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
                    models.Index(fields=["tenant", "created_at", "id"], name="billing_wallet_by_time"),
                    models.Index(
                        condition=models.Q(("auto_amount_nano__isnull", False), ("closed_at__isnull", True)),
                        fields=["auto_retry_at"],
                        name="billing_wallet_automatic",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant", "customer"), name="billing_wallet_one_per_customer"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("customer", ""), _negated=True), name="billing_wallet_customer"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("burnt_nano__gte", 0), ("burnt_nano__lte", 9007199254740992)),
                        name="billing_wallet_burnt",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("auto_amount_nano__isnull", True),
                                ("auto_monthly_max_nano__isnull", True),
                                ("auto_threshold_nano__isnull", True),
                            ),
                            models.Q(
                                ("auto_amount_nano__gte", 1),
                                ("auto_threshold_nano__gte", 0),
                                ("auto_monthly_max_nano__gte", models.F("auto_amount_nano")),
                            ),
                            _connector="OR",
                        ),
                        name="billing_wallet_automatic",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="TopUp",
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
                    models.CharField(
                        choices=[("checkout", "Checkout"), ("automatic", "Automatic")], max_length=16
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("paid", "Paid"),
                            ("failed", "Failed"),
                            ("expired", "Expired"),
                        ],
                        default="pending",
                        max_length=16,
                    ),
                ),
                ("amount_nano", models.BigIntegerField()),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("checkout_id", models.CharField(blank=True, default="", max_length=255)),
                ("url", models.CharField(blank=True, default="", max_length=2048)),
                ("payment_id", models.CharField(blank=True, max_length=255, null=True)),
                ("failure", models.CharField(blank=True, default="", max_length=300)),
                ("created_by", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField(editable=False)),
                ("tried_at", models.DateTimeField(blank=True, null=True)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
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
                    "wallet",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="top_ups",
                        to="billing.wallet",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        fields=["tenant", "wallet", "created_at", "id"], name="billing_topup_of_wallet"
                    ),
                    models.Index(
                        condition=models.Q(("state", "pending")),
                        fields=["created_at"],
                        name="billing_topup_open",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id"), name="billing_topup_tenant_id"),
                    models.CheckConstraint(
                        condition=models.Q(("amount_nano__gte", 1), ("amount_nano__lte", 9007199254740992)),
                        name="billing_topup_amount",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["pending", "paid", "failed", "expired"])),
                        name="billing_topup_state",
                    ),
                    models.UniqueConstraint(fields=("tenant", "payment_id"), name="billing_topup_payment"),
                    models.UniqueConstraint(
                        condition=models.Q(("kind", "automatic"), ("state", "pending")),
                        fields=("wallet",),
                        name="billing_topup_one_automatic",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="JournalPosting",
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
                    models.CharField(
                        choices=[
                            ("grant", "Grant"),
                            ("burn", "Burn"),
                            ("repay", "Repay"),
                            ("expire", "Expire"),
                            ("refund", "Refund"),
                        ],
                        max_length=16,
                    ),
                ),
                ("note", models.CharField(blank=True, default="", max_length=500)),
                ("calls", models.IntegerField(default=0)),
                ("actor", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField(editable=False)),
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
                    "wallet",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="postings",
                        to="billing.wallet",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        fields=["tenant", "wallet", "created_at", "id"], name="billing_posting_of_wallet"
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id"), name="billing_journalposting_tenant_id")
                ],
            },
        ),
        migrations.CreateModel(
            name="JournalLine",
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
                    "account",
                    models.CharField(
                        choices=[
                            ("paid_credit", "Paid Credit"),
                            ("promotional_credit", "Promotional Credit"),
                            ("owed", "Owed"),
                            ("cash", "Cash"),
                            ("promotion", "Promotion"),
                            ("revenue", "Revenue"),
                            ("presumed", "Presumed"),
                            ("expired", "Expired"),
                            ("refunds", "Refunds"),
                        ],
                        max_length=20,
                    ),
                ),
                ("amount_nano", models.BigIntegerField()),
                (
                    "grant",
                    models.ForeignKey(
                        blank=True,
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="lines",
                        to="billing.creditgrant",
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
                (
                    "posting",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="lines",
                        to="billing.journalposting",
                    ),
                ),
                (
                    "wallet",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="lines",
                        to="billing.wallet",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["tenant", "wallet", "account"], name="billing_line_of_wallet")
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id"), name="billing_journalline_tenant_id"),
                    models.CheckConstraint(
                        condition=models.Q(("amount_nano", 0), _negated=True),
                        name="billing_journalline_amount",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "account__in",
                                [
                                    "paid_credit",
                                    "promotional_credit",
                                    "owed",
                                    "cash",
                                    "promotion",
                                    "revenue",
                                    "presumed",
                                    "expired",
                                    "refunds",
                                ],
                            )
                        ),
                        name="billing_journalline_account",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("account__in", ["paid_credit", "promotional_credit"]),
                                ("grant__isnull", False),
                            ),
                            models.Q(
                                models.Q(
                                    ("account__in", ["paid_credit", "promotional_credit"]), _negated=True
                                ),
                                ("grant__isnull", True),
                            ),
                            _connector="OR",
                        ),
                        name="billing_journalline_grant",
                    ),
                ],
            },
        ),
        migrations.AddField(
            model_name="creditgrant",
            name="wallet",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="grants",
                to="billing.wallet",
            ),
        ),
        migrations.CreateModel(
            name="WalletCursor",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("position", models.BigIntegerField()),
                ("shift", models.BigIntegerField()),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id", 1)), name="billing_walletcursor_one")
                ],
            },
        ),
        migrations.CreateModel(
            name="WalletEntry",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("wallet_id", models.UUIDField()),
                ("hold_id", models.UUIDField()),
                ("placed_month", models.DateField()),
                ("revision", models.IntegerField()),
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
                "indexes": [models.Index(fields=["wallet_id", "id"], name="billing_walletentry_of_wallet")],
                "constraints": [
                    models.UniqueConstraint(fields=("hold_id", "revision"), name="billing_walletentry_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="WalletHold",
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
                ("revision", models.IntegerField()),
                ("placed_at", models.DateTimeField()),
                ("posted_nano", models.BigIntegerField()),
                ("charged_nano", models.BigIntegerField()),
                ("presumed_nano", models.BigIntegerField()),
                ("draws", models.JSONField()),
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
                    "wallet",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="holds",
                        to="billing.wallet",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["tenant", "wallet", "placed_at"], name="billing_hold_of_wallet")
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "id"), name="billing_wallethold_tenant_id"),
                    models.UniqueConstraint(fields=("hold_id",), name="billing_wallethold_once"),
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="wallet",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="billing_wallet_tenant_id"),
        ),
        migrations.AddIndex(
            model_name="creditgrant",
            index=models.Index(
                fields=["tenant", "wallet", "created_at", "id"], name="billing_grant_of_wallet"
            ),
        ),
        migrations.AddIndex(
            model_name="creditgrant",
            index=models.Index(
                condition=models.Q(("remaining_nano__gt", 0)), fields=["wallet"], name="billing_grant_open"
            ),
        ),
        migrations.AddConstraint(
            model_name="creditgrant",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="billing_creditgrant_tenant_id"),
        ),
        migrations.RunSQL(COMPOSITE_KEYS, migrations.RunSQL.noop),
        migrations.RunSQL(JOURNAL, UNDO),
    ]
