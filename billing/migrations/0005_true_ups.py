"""True-ups of wallets: what of a period went back, and when each wallet is looked at next."""

import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.datetime
from django.db import migrations, models

import tenants.models.base

COMPOSITE_KEY = """
ALTER TABLE billing_wallettrueup ADD CONSTRAINT billing_wallettrueup_wallet_same_tenant
    FOREIGN KEY (tenant_id, wallet_id) REFERENCES billing_wallet (tenant_id, id) DEFERRABLE INITIALLY DEFERRED;
DO $$
BEGIN
    IF to_regrole('noburn_app') IS NOT NULL THEN
        REVOKE DELETE ON billing_wallettrueup FROM noburn_app;
    END IF;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("billing", "0004_wallets"),
        ("tenants", "0002_management_api"),
    ]

    operations = [
        migrations.CreateModel(
            name="WalletTrueUp",
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
                ("until", models.DateTimeField()),
                ("charged_nano", models.BigIntegerField()),
                ("paid_nano", models.BigIntegerField()),
                ("returned_nano", models.BigIntegerField()),
                ("changed_at", models.DateTimeField()),
            ],
        ),
        migrations.RemoveIndex(
            model_name="wallethold",
            name="billing_hold_of_wallet",
        ),
        migrations.AddField(
            model_name="wallet",
            name="true_up_at",
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now()),
        ),
        migrations.AlterField(
            model_name="journalposting",
            name="kind",
            field=models.CharField(
                choices=[
                    ("grant", "Grant"),
                    ("burn", "Burn"),
                    ("repay", "Repay"),
                    ("expire", "Expire"),
                    ("refund", "Refund"),
                    ("true_up", "True Up"),
                ],
                max_length=16,
            ),
        ),
        migrations.AddIndex(
            model_name="wallet",
            index=models.Index(fields=["true_up_at"], name="billing_wallet_to_true_up"),
        ),
        migrations.AddIndex(
            model_name="wallethold",
            index=models.Index(
                fields=["tenant", "wallet", "placed_at"],
                include=("charged_nano", "presumed_nano", "hold_id"),
                name="billing_hold_of_wallet",
            ),
        ),
        migrations.AddField(
            model_name="wallettrueup",
            name="tenant",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AddField(
            model_name="wallettrueup",
            name="wallet",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="true_ups",
                to="billing.wallet",
            ),
        ),
        migrations.AddConstraint(
            model_name="wallettrueup",
            constraint=models.UniqueConstraint(
                fields=("tenant", "id"), name="billing_wallettrueup_tenant_id"
            ),
        ),
        migrations.AddConstraint(
            model_name="wallettrueup",
            constraint=models.UniqueConstraint(
                fields=("tenant", "wallet", "starts_at"), name="billing_wallettrueup_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="wallettrueup",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "returned_nano",
                        django.db.models.expressions.CombinedExpression(
                            models.F("charged_nano"), "-", models.F("paid_nano")
                        ),
                    ),
                    ("returned_nano__gte", 0),
                ),
                name="billing_wallettrueup_returned",
            ),
        ),
        migrations.RunSQL(COMPOSITE_KEY, migrations.RunSQL.noop),
    ]
