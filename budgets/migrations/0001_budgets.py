"""Budgets, overrides of their limits, and the compiled policy."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import budgets.models.budgets
import tenants.models.base

COMPOSITE_KEYS = """
ALTER TABLE budgets_budgetoverride ADD CONSTRAINT budgets_budgetoverride_budget_same_tenant
    FOREIGN KEY (tenant_id, budget_id) REFERENCES budgets_budget (tenant_id, id)
    DEFERRABLE INITIALLY DEFERRED;
"""
DROP_COMPOSITE_KEYS = """
ALTER TABLE budgets_budgetoverride DROP CONSTRAINT budgets_budgetoverride_budget_same_tenant;
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("tenants", "0001_tenancy"),
    ]

    operations = [
        migrations.CreateModel(
            name="PolicySnapshot",
            fields=[
                (
                    "tenant",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="tenants.tenant",
                    ),
                ),
                ("version", models.BigIntegerField()),
                ("body", models.BinaryField()),
                ("compiled_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="Budget",
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
                ("name", models.CharField(max_length=200)),
                (
                    "scope",
                    models.CharField(
                        choices=[
                            ("tenant", "tenant"),
                            ("project", "project"),
                            ("customer", "customer"),
                            ("user", "user"),
                            ("run", "run"),
                            ("api_key", "api_key"),
                            ("plan", "plan"),
                            ("provider", "provider"),
                            ("model", "model"),
                            ("tag", "tag"),
                        ],
                        max_length=16,
                    ),
                ),
                ("subject", models.CharField(max_length=300)),
                ("tag", models.CharField(blank=True, max_length=64, null=True)),
                (
                    "metric",
                    models.CharField(
                        choices=[("usd", "usd"), ("tokens", "tokens"), ("requests", "requests")],
                        max_length=16,
                    ),
                ),
                (
                    "window",
                    models.CharField(
                        choices=[
                            ("minute", "minute"),
                            ("hour", "hour"),
                            ("day", "day"),
                            ("week", "week"),
                            ("month", "month"),
                            ("quarter", "quarter"),
                            ("total", "total"),
                            ("run", "run"),
                        ],
                        db_column="window_kind",
                        max_length=16,
                    ),
                ),
                ("anchor_day", models.SmallIntegerField(blank=True, null=True)),
                ("time_zone", models.CharField(blank=True, max_length=64, null=True)),
                ("limit", models.BigIntegerField(db_column="limit_amount")),
                (
                    "action",
                    models.CharField(
                        choices=[("block", "block"), ("warn", "warn")], default="block", max_length=16
                    ),
                ),
                (
                    "estimate",
                    models.CharField(
                        choices=[("ceiling", "Ceiling"), ("learned", "Learned")],
                        default="ceiling",
                        max_length=16,
                    ),
                ),
                (
                    "on_expiry",
                    models.CharField(
                        choices=[("presume", "Presume"), ("release", "Release")],
                        default="presume",
                        max_length=16,
                    ),
                ),
                (
                    "on_epoch_close",
                    models.CharField(
                        choices=[("strict", "Strict"), ("release", "Release")],
                        default="strict",
                        max_length=16,
                    ),
                ),
                (
                    "thresholds",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.SmallIntegerField(),
                        blank=True,
                        default=budgets.models.budgets.default_thresholds,
                        size=None,
                    ),
                ),
                ("effective_at", models.DateTimeField()),
                ("archived_at", models.DateTimeField(blank=True, null=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
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
                        condition=models.Q(("archived_at__isnull", True)),
                        fields=["tenant", "created_at", "id"],
                        name="budgets_budget_live",
                    )
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("version__gte", 1)), name="budgets_budget_version"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "scope__in",
                                [
                                    "tenant",
                                    "project",
                                    "customer",
                                    "user",
                                    "run",
                                    "api_key",
                                    "plan",
                                    "provider",
                                    "model",
                                    "tag",
                                ],
                            )
                        ),
                        name="budgets_budget_scope",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("metric__in", ["usd", "tokens", "requests"])),
                        name="budgets_budget_metric",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "window__in",
                                ["minute", "hour", "day", "week", "month", "quarter", "total", "run"],
                            )
                        ),
                        name="budgets_budget_window",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("action__in", ["block", "warn"])), name="budgets_budget_action"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("estimate__in", ["ceiling", "learned"])),
                        name="budgets_budget_estimate",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("on_expiry__in", ["presume", "release"])),
                        name="budgets_budget_on_expiry",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("on_epoch_close__in", ["strict", "release"])),
                        name="budgets_budget_on_epoch_close",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("limit__gte", 0), ("limit__lte", 9007199254740992)),
                        name="budgets_budget_limit",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("anchor_day__isnull", True),
                            models.Q(("anchor_day__range", (1, 31)), ("window__in", ["month", "quarter"])),
                            _connector="OR",
                        ),
                        name="budgets_budget_anchor_day",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("subject", ""), _negated=True), name="budgets_budget_subject"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("scope", "tag"), ("tag__isnull", False)),
                            models.Q(models.Q(("scope", "tag"), _negated=True), ("tag__isnull", True)),
                            _connector="OR",
                        ),
                        name="budgets_budget_tag",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("window", "run"), _negated=True), ("scope", "run"), _connector="OR"
                        ),
                        name="budgets_budget_run_window",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("thresholds__len__lte", 10)), name="budgets_budget_thresholds"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="BudgetOverride",
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
                ("subject", models.CharField(max_length=300)),
                ("limit", models.BigIntegerField(db_column="limit_amount")),
                ("version", models.IntegerField(default=1)),
                ("updated_at", models.DateTimeField()),
                (
                    "budget",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="overrides",
                        to="budgets.budget",
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
                    models.UniqueConstraint(fields=("tenant", "id"), name="budgets_budgetoverride_tenant_id"),
                    models.UniqueConstraint(
                        fields=("tenant", "budget", "subject"), name="budgets_budgetoverride_one_per_subject"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("limit__gte", 0), ("limit__lte", 9007199254740992)),
                        name="budgets_budgetoverride_limit",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("subject", ""), _negated=True),
                            models.Q(("subject", "*"), _negated=True),
                        ),
                        name="budgets_budgetoverride_subject",
                    ),
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="budget",
            constraint=models.UniqueConstraint(fields=("tenant", "id"), name="budgets_budget_tenant_id"),
        ),
        migrations.RunSQL(COMPOSITE_KEYS, DROP_COMPOSITE_KEYS),
    ]
