"""Budgets, their overrides for single subjects, and the compiled policy that gateways read."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from budgets.domain.budget_rules import QUOTA_SCOPES
from budgets.domain.policy import BUDGET_METRICS, BUDGET_SCOPES, Action, Metric, Scope, WindowKind
from tenants.models import TenantOwned

LIMIT_MAX = 2**53
"""The largest limit in any metric's unit: beyond it Lua's numbers are no longer exact."""


def default_thresholds() -> list[int]:
    """The percentages of a limit at which a tenant is told, unless a budget names others."""
    return [50, 80, 100]


class Estimate(models.TextChoices):
    """How large a hold is: the proven ceiling, or what calls were seen to cost (soft)."""

    CEILING = "ceiling"
    LEARNED = "learned"


class OnExpiry(models.TextChoices):
    """What an expired hold becomes: presumed spent, or given back (soft)."""

    PRESUME = "presume"
    RELEASE = "release"


class OnEpochClose(models.TextChoices):
    """What the unresolved authority of a lost Redis becomes: locked, or released in time (soft)."""

    STRICT = "strict"
    RELEASE = "release"


class OwnBudgets(models.Manager["Budget"]):
    """The budgets that tenants make: the rows over a tenant's wallets and runs are none of them."""

    def get_queryset(self) -> models.QuerySet[Budget]:
        """Every row but those of wallets and of caps of runs."""
        return super().get_queryset().exclude(scope__in=(Scope.WALLET.value, Scope.RUN_CAP.value))


class Budget(TenantOwned):
    """A limit on what calls may use in a window. `limit` is in the metric's unit: nano-USD, tokens or calls.

    The columns of `limit` and `window` are limit_amount and window_kind: both words are reserved in SQL.
    """

    version = models.IntegerField(default=1)
    name = models.CharField(max_length=200)
    scope = models.CharField(max_length=16, choices=[(s.value, s.value) for s in BUDGET_SCOPES])
    subject = models.CharField(max_length=300)
    tag = models.CharField(max_length=64, null=True, blank=True)
    metric = models.CharField(max_length=16, choices=[(m.value, m.value) for m in BUDGET_METRICS])
    window = models.CharField(
        max_length=16, choices=[(w.value, w.value) for w in WindowKind], db_column="window_kind"
    )
    anchor_day = models.SmallIntegerField(null=True, blank=True)
    time_zone = models.CharField(max_length=64, null=True, blank=True)
    limit = models.BigIntegerField(db_column="limit_amount")
    action = models.CharField(
        max_length=16, choices=[(a.value, a.value) for a in Action], default=Action.BLOCK.value
    )
    downgrade_model = models.CharField(max_length=200, null=True, blank=True)
    estimate = models.CharField(max_length=16, choices=Estimate, default=Estimate.CEILING)
    on_expiry = models.CharField(max_length=16, choices=OnExpiry, default=OnExpiry.PRESUME)
    on_epoch_close = models.CharField(max_length=16, choices=OnEpochClose, default=OnEpochClose.STRICT)
    thresholds = ArrayField(models.SmallIntegerField(), default=default_thresholds, blank=True)
    plan = models.CharField(max_length=200, null=True, blank=True)
    upgrade_to = models.CharField(max_length=200, null=True, blank=True)
    effective_at = models.DateTimeField()
    archived_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = OwnBudgets()
    with_wallets = models.Manager["Budget"]()

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.CheckConstraint(condition=models.Q(version__gte=1), name="budgets_budget_version"),
            models.CheckConstraint(
                condition=models.Q(scope__in=[s.value for s in Scope]), name="budgets_budget_scope"
            ),
            models.CheckConstraint(
                condition=models.Q(metric__in=[m.value for m in Metric]), name="budgets_budget_metric"
            ),
            models.CheckConstraint(
                condition=models.Q(window__in=[w.value for w in WindowKind]), name="budgets_budget_window"
            ),
            models.CheckConstraint(
                condition=models.Q(action__in=[a.value for a in Action]), name="budgets_budget_action"
            ),
            models.CheckConstraint(
                condition=models.Q(action="downgrade", downgrade_model__gt="")
                | ~models.Q(action="downgrade") & models.Q(downgrade_model__isnull=True),
                name="budgets_budget_downgrade",
            ),
            models.CheckConstraint(
                condition=models.Q(estimate__in=Estimate.values), name="budgets_budget_estimate"
            ),
            models.CheckConstraint(
                condition=models.Q(on_expiry__in=OnExpiry.values), name="budgets_budget_on_expiry"
            ),
            models.CheckConstraint(
                condition=models.Q(on_epoch_close__in=OnEpochClose.values),
                name="budgets_budget_on_epoch_close",
            ),
            models.CheckConstraint(
                condition=models.Q(limit__gte=0, limit__lte=LIMIT_MAX), name="budgets_budget_limit"
            ),
            models.CheckConstraint(
                condition=models.Q(anchor_day__isnull=True)
                | models.Q(anchor_day__range=(1, 31), window__in=["month", "quarter"]),
                name="budgets_budget_anchor_day",
            ),
            models.CheckConstraint(condition=~models.Q(subject=""), name="budgets_budget_subject"),
            models.CheckConstraint(
                condition=models.Q(scope="tag", tag__isnull=False)
                | ~models.Q(scope="tag") & models.Q(tag__isnull=True),
                name="budgets_budget_tag",
            ),
            models.CheckConstraint(
                condition=~models.Q(window="run") | models.Q(scope="run"), name="budgets_budget_run_window"
            ),
            models.CheckConstraint(
                condition=models.Q(thresholds__len__lte=10), name="budgets_budget_thresholds"
            ),
            models.CheckConstraint(
                condition=models.Q(
                    scope="wallet", metric="charge", subject="*", window="total", action="block"
                )
                | ~models.Q(scope="wallet") & ~models.Q(metric="charge"),
                name="budgets_budget_wallet",
            ),
            models.UniqueConstraint(
                fields=["tenant"], condition=models.Q(scope="wallet"), name="budgets_budget_one_of_wallets"
            ),
            models.CheckConstraint(
                condition=models.Q(plan__isnull=True, upgrade_to__isnull=True)
                | models.Q(plan__isnull=False, scope__in=QUOTA_SCOPES) & ~models.Q(plan=""),
                name="budgets_budget_quota",
            ),
        ]
        indexes = [
            models.Index(
                fields=["tenant", "created_at", "id"],
                name="budgets_budget_live",
                condition=models.Q(archived_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return self.name


class BudgetOverride(TenantOwned):
    """Another limit for one subject of a template budget."""

    budget = models.ForeignKey(
        Budget, on_delete=models.PROTECT, related_name="overrides", db_constraint=False, db_index=False
    )
    subject = models.CharField(max_length=300)
    limit = models.BigIntegerField(db_column="limit_amount")
    version = models.IntegerField(default=1)
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(
                fields=["tenant", "budget", "subject"], name="budgets_budgetoverride_one_per_subject"
            ),
            models.CheckConstraint(
                condition=models.Q(limit__gte=0, limit__lte=LIMIT_MAX), name="budgets_budgetoverride_limit"
            ),
            models.CheckConstraint(
                condition=~models.Q(subject="") & ~models.Q(subject="*"),
                name="budgets_budgetoverride_subject",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subject}: {self.limit}"


class BudgetIncrease(TenantOwned):
    """So much more than the limit for a while: `amount` is in the budget's unit, in force in [starts_at, ends_at).

    `subject` is EACH for every subject of the budget. `started_at` and `ended_at` say when counters were told
    (`budgets.services.increases`): an increase counts no more once it is marked as ended, whatever clocks do.
    """

    budget = models.ForeignKey(
        Budget, on_delete=models.PROTECT, related_name="increases", db_constraint=False, db_index=False
    )
    subject = models.CharField(max_length=300)
    amount = models.BigIntegerField()
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=500)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    cancelled_at = models.DateTimeField(null=True, blank=True)
    cancelled_by = models.CharField(max_length=200, blank=True, default="")

    OPEN = models.Q(ended_at__isnull=True, cancelled_at__isnull=True)

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.CheckConstraint(
                condition=models.Q(amount__gte=1, amount__lte=LIMIT_MAX), name="budgets_budgetincrease_amount"
            ),
            models.CheckConstraint(
                condition=models.Q(ends_at__gt=models.F("starts_at")), name="budgets_budgetincrease_period"
            ),
            models.CheckConstraint(
                condition=~models.Q(subject="") & ~models.Q(reason=""), name="budgets_budgetincrease_texts"
            ),
        ]
        indexes = [
            models.Index(fields=["tenant", "budget", "created_at", "id"], name="budgets_increase_of_budget"),
            models.Index(
                fields=["tenant", "budget", "subject"],
                name="budgets_increase_open",
                condition=models.Q(ended_at__isnull=True, cancelled_at__isnull=True),
            ),
            models.Index(
                fields=["ends_at"],
                name="budgets_increase_to_end",
                condition=models.Q(ended_at__isnull=True, cancelled_at__isnull=True),
            ),
            models.Index(
                fields=["starts_at"],
                name="budgets_increase_to_start",
                condition=models.Q(started_at__isnull=True, ended_at__isnull=True, cancelled_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subject}: +{self.amount}"

    @property
    def state(self) -> str:
        """scheduled, active, ended or cancelled, as counters were told."""
        if self.cancelled_at is not None:
            return "cancelled"
        if self.ended_at is not None:
            return "ended"
        return "scheduled" if self.started_at is None else "active"


class PolicySnapshot(models.Model):
    """A tenant's compiled policy as msgpack (`budgets.domain.policy`), and the version that calls carry."""

    tenant = models.OneToOneField(
        "tenants.Tenant", primary_key=True, on_delete=models.PROTECT, related_name="+"
    )
    version = models.BigIntegerField()
    body = models.BinaryField()
    compiled_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.tenant_id} v{self.version}"


class WalletCharges(models.Model):
    """The most that a tenant's customers are charged, as msgpack (`budgets.domain.charging`); billing writes it."""

    tenant = models.OneToOneField(
        "tenants.Tenant", primary_key=True, on_delete=models.PROTECT, related_name="+"
    )
    body = models.BinaryField()
    changed_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.tenant_id)


__all__ = [
    "LIMIT_MAX",
    "Budget",
    "BudgetIncrease",
    "BudgetOverride",
    "Estimate",
    "OnEpochClose",
    "OnExpiry",
    "PolicySnapshot",
    "WalletCharges",
    "default_thresholds",
]
