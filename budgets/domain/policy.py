"""The compiled policy of one tenant: everything the gateway must know to decide about a call.

A snapshot is compiled in the transaction of each edit (`budgets.services.policy`), stored as msgpack beside
its version, and held in memory by the gateways. It carries rules, never per-subject state: an override of one
customer's limit is resolved where its counter is loaded, so the snapshot does not grow with customers.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from budgets.domain.charging import ChargeRules
from budgets.domain.routing import RoutingPolicy


class Scope(StrEnum):
    """Whose calls a budget counts."""

    TENANT = "tenant"
    PROJECT = "project"
    CUSTOMER = "customer"
    USER = "user"
    RUN = "run"
    API_KEY = "api_key"
    PLAN = "plan"
    PROVIDER = "provider"
    MODEL = "model"
    TAG = "tag"
    WALLET = "wallet"
    """A customer's prepaid credit: no budget that a tenant makes, but a counter like any other."""
    RUN_CAP = "run_cap"
    """What one started run may use: no budget that a tenant makes either; docs/runs.md."""


BUDGET_SCOPES = tuple(scope for scope in Scope if scope not in (Scope.WALLET, Scope.RUN_CAP))
"""The scopes that a tenant's budgets may have."""


class Metric(StrEnum):
    """What a budget counts; amounts are nano-USD, tokens or calls. A charge is nano-USD of what the customer pays."""

    USD = "usd"
    TOKENS = "tokens"
    REQUESTS = "requests"
    CHARGE = "charge"


BUDGET_METRICS = (Metric.USD, Metric.TOKENS, Metric.REQUESTS)
"""What a tenant's budgets may count; wallets alone count charges."""


class Action(StrEnum):
    """What happens to a call that does not fit: `warn` lets it through and records it, `downgrade` tries a cheaper model.

    To counters a downgrading budget is a blocking one: what follows a refusal is decided outside of them.
    """

    BLOCK = "block"
    WARN = "warn"
    DOWNGRADE = "downgrade"


class WindowKind(StrEnum):
    """How long a budget counts before it starts anew; `minute` is a rate limit kept in Redis alone."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"
    TOTAL = "total"
    RUN = "run"


EACH = "*"
"""The subject of a template: the budget applies to each subject of its scope on its own."""


class KeyRecord(msgspec.Struct, frozen=True, array_like=True):
    """One API key as the gateway sees it. Revoked keys stay: a settlement may still come with one."""

    key_id: UUID
    digest: bytes
    project: str
    scopes: tuple[str, ...]
    expires_at: datetime | None
    revoked_at: datetime | None


class BudgetRule(msgspec.Struct, frozen=True, array_like=True):
    """One budget. `limit` is in the metric's unit and only a default: an override may replace it per subject.

    `subject` is EACH for a template, else the one subject; a tag's subject is `name=value` and a tag template
    names its tag in `tag`. `time_zone` None: the tenant's. Two soft modes: with `release_on_expiry` an expired hold
    gives its amount back, with `learned` a hold is what calls were seen to use. `version` rises with every edit: a
    counter loaded under an older one is refreshed. `downgrade_to`: the model that a call is tried with which this
    budget refuses; `action` is then BLOCK.
    """

    budget_id: UUID
    version: int
    scope: Scope
    subject: str
    tag: str | None
    metric: Metric
    window: WindowKind
    anchor_day: int | None
    limit: int
    action: Action
    time_zone: str | None = None
    release_on_expiry: bool = False
    learned: bool = False
    plan: str | None = None
    """A quota: only calls of this plan of the tenant's count."""
    upgrade_to: str | None = None
    """The plan that a refusal by a quota suggests."""
    downgrade_to: str = ""


class PriceOverrideRule(msgspec.Struct, frozen=True, array_like=True):
    """One negotiated price, in force in [effective_from, effective_to). `model` is ANY_MODEL or a name in lower case.

    `kept_ppm` is what a discount leaves of the book's prices, in millionths; None: `prices` stand in place of the
    book's, each as (variant, unit, tier_start, pico-USD for one unit).
    """

    override_id: UUID
    provider: str
    model: str
    kept_ppm: int | None
    prices: tuple[tuple[str, str, int, int], ...]
    effective_from: datetime
    effective_to: datetime | None


class LearnedRule(msgspec.Struct, frozen=True, array_like=True):
    """What nearly all of a tenant's calls of one model use: input in ppm of its bound, and output tokens."""

    provider: str
    model: str
    input_ppm: int
    output_tokens: int

    def tokens(self, *, input_tokens: int, max_output_tokens: int) -> tuple[int, int]:
        """Returns the (input, output) tokens that a call is held for; never more than its bound."""
        likely = -(-input_tokens * self.input_ppm // 1_000_000)
        return min(input_tokens, likely), min(max_output_tokens, self.output_tokens)


class GuardKind(StrEnum):
    """What a guard stops; docs/guards.md."""

    REPEAT = "repeat"
    VELOCITY = "velocity"
    DEPTH = "depth"
    CALL = "call"
    NEWCOMER = "newcomer"


class GuardRule(msgspec.Struct, frozen=True, array_like=True):
    """One guard. `limits` are whole numbers by name (`budgets.domain.guards.LIMITS`), amounts in nano-USD.

    `scope` and `subject` say whose calls it watches, EACH: each subject on its own. Without `enforce` it only tells.
    """

    guard_id: UUID
    name: str
    kind: GuardKind
    enforce: bool
    scope: Scope
    subject: str
    limits: dict[str, int]

    tag = None
    plan = None


class WalletRule(msgspec.Struct, frozen=True, array_like=True):
    """That customers of a tenant may have wallets, and the most that they are charged. Billing writes it.

    Whether one customer has a wallet, and what is in it, is found where its counter is loaded.
    """

    budget_id: UUID
    version: int
    charges: ChargeRules

    def as_budget(self) -> BudgetRule:
        """The rule by which wallets are counters: one for each customer, without an end."""
        return BudgetRule(
            budget_id=self.budget_id,
            version=self.version,
            scope=Scope.WALLET,
            subject=EACH,
            tag=None,
            metric=Metric.CHARGE,
            window=WindowKind.TOTAL,
            anchor_day=None,
            limit=0,
            action=Action.BLOCK,
        )


ANY_MODEL = "*"
"""The model of a negotiated price for whatever a provider sells."""


class Policy(msgspec.Struct, frozen=True, array_like=True):
    """A tenant's compiled policy. `version` is what every script call carries.

    Fields are only ever appended, with a default: gateways of two versions read each other's bodies.
    """

    tenant_id: UUID
    version: int
    suspended: bool
    time_zone: str
    default_max_output_tokens: int
    unknown_model: str
    keys: tuple[KeyRecord, ...]
    projects: tuple[str, ...]
    suspended_customers: frozenset[str]
    budgets: tuple[BudgetRule, ...]
    price_overrides: tuple[PriceOverrideRule, ...] = ()
    learned: tuple[LearnedRule, ...] = ()
    wallet: WalletRule | None = None
    refused_until: datetime | None = None
    """Until when noburn's own plan of the tenant lets no call through."""
    guards: tuple[GuardRule, ...] = ()
    project_ids: tuple[UUID, ...] = ()
    """The ids of `projects`, in their order; none in a policy that was compiled by an earlier release."""
    routing: tuple[RoutingPolicy, ...] = ()
    """The tenant's policies in the order in which they are gone through."""
    calls_per_second: int | None = None
    """How often a gateway process answers the tenant; None: as the installation says."""


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Policy).decode
