"""What billing tells the escrow of wallets: that a tenant has them, what customers are charged at most, what is in each.

A wallet's counter is one like any other, in nano-USD of what its customer pays; docs/escrow.md, "Wallets". What is in a
wallet is written in the transaction that changed it, and Redis hears of it after the commit: now, or by the next sweep.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from django.db import connection, transaction

from budgets.domain import charging
from budgets.domain.charging import ChargeRules
from budgets.domain.demands import counter_id_of
from budgets.domain.policy import EACH, Action, Metric, Scope, WindowKind
from budgets.models import Budget, WalletCharges
from budgets.services.policy import publish
from budgets.stores.redis.keys import Keys, shard_of
from budgets.stores.redis.scripts import ScriptSet
from noburn.kit import ids
from noburn.kit.redis_cluster import servers_of
from tenants.services.tenants import lock_tenant

log = logging.getLogger(__name__)

FALLS_MAX = 1000
"""How many grants of one wallet may end at times of their own."""

SECONDS_MAX = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Fall:
    """Credit of `amount` nano-USD that ends at `at`."""

    at: datetime
    amount: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WalletLimit:
    """What a wallet's counter may be used for. `base` is credit without an end, less what is owed: it may be negative.

    `burnt` is the part of what the counter has spent that was taken from the credit already.
    """

    base: int
    burnt: int
    falls: Sequence[Fall] = ()


def wallets_of(*, tenant_id: UUID, now: datetime) -> UUID:
    """Returns the id of what a tenant's wallets are counters of; makes it on the first wallet. Raises TenantNotFound."""
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        found = Budget.with_wallets.filter(tenant_id=tenant_id, scope=Scope.WALLET).first()
        if found is None:
            found = Budget.with_wallets.create(
                id=ids.new_uuid(now),
                tenant_id=tenant_id,
                name="Wallets",
                scope=Scope.WALLET.value,
                subject=EACH,
                metric=Metric.CHARGE.value,
                window=WindowKind.TOTAL.value,
                limit=0,
                action=Action.BLOCK.value,
                thresholds=[],
                effective_at=now,
                created_at=now,
            )
            publish(tenant_id=tenant_id, now=now)
    return found.pk


def wallet_id_of(*, wallets_id: UUID, customer: str) -> UUID:
    """Returns the id of a customer's wallet, which is its counter's: known without asking anybody."""
    return counter_id_of(budget_id=wallets_id, subject=customer, starts_ms=0, ends_ms=0)


def set_charges(*, tenant_id: UUID, rules: ChargeRules, now: datetime) -> bool:
    """Says the most that a tenant's customers are charged, and publishes it if that is news; returns whether it was.

    For holds that are placed from the next call on; one in flight is settled by what it was placed under.
    """
    body = charging.encode(rules)
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        known = WalletCharges.objects.filter(pk=tenant_id).first()
        if known is not None and bytes(known.body) == body:
            return False
        WalletCharges.objects.update_or_create(
            tenant_id=tenant_id, defaults={"body": body, "changed_at": now}
        )
        if Budget.with_wallets.filter(tenant_id=tenant_id, scope=Scope.WALLET).exists():
            publish(tenant_id=tenant_id, now=now)
    return True


def set_limit(*, tenant_id: UUID, wallets_id: UUID, customer: str, limit: WalletLimit) -> None:
    """Writes what is in a wallet, in the caller's transaction; the counter is told after its commit.

    The caller has the wallet's own row locked, so that nobody writes an older state over a newer one.
    """
    if len(limit.falls) > FALLS_MAX:
        raise ValueError(f"a wallet's credit may end at {FALLS_MAX} times at most")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nb_wallet_set(%s, %s, %s, %s, %s, %s, %s, %s::timestamptz[], %s::bigint[])",
            [
                tenant_id,
                shard_of(tenant_id),
                wallets_id,
                customer,
                wallet_id_of(wallets_id=wallets_id, customer=customer),
                limit.base,
                limit.burnt,
                [fall.at for fall in limit.falls],
                [fall.amount for fall in limit.falls],
            ],
        )
        (told,) = cursor.fetchone() or (None,)
    if told is not None:
        message = told if isinstance(told, dict) else json.loads(told)
        transaction.on_commit(partial(_deliver, message))


def drop_limit(*, tenant_id: UUID, wallets_id: UUID, customer: str, now: datetime) -> None:
    """Takes a wallet away from the escrow: from the next call on the customer is held on nothing in it.

    Every wallet's counter of the tenant is read anew on its next call, since gateways hold the rule of all at once.
    """
    with transaction.atomic():
        lock_tenant(tenant_id=tenant_id)
        wallet_id = wallet_id_of(wallets_id=wallets_id, customer=customer)
        with connection.cursor() as cursor:
            cursor.execute("SELECT nb_wallet_drop(%s, %s)", [tenant_id, wallet_id])
        budget = Budget.with_wallets.get(tenant_id=tenant_id, pk=wallets_id)
        budget.version += 1
        budget.save(update_fields=["version"])
        publish(tenant_id=tenant_id, now=now)


def _deliver(message: dict[str, Any]) -> None:
    """Sends one load message; never raises, since the next sweep sends what did not arrive, and books what did."""
    tenant_id, epoch_id = UUID(message["tenant"]), UUID(message["epoch"])
    with connection.cursor() as cursor:
        cursor.execute("SELECT scripts FROM epochs WHERE epoch_id = %s AND state = 'open'", [epoch_id])
        row = cursor.fetchone()
    if row is None:
        return
    keys = Keys(shard=shard_of(tenant_id), epoch_id=epoch_id)
    scripts = ScriptSet(row[0] if isinstance(row[0], dict) else json.loads(row[0]))
    names = [keys.epoch, keys.counter(UUID(message["counter"]))]
    arguments = [
        *(message[name] for name in ("inc", "seq", "total", "pf", "bv", "lim")),
        "1" if message["create"] else "0",
        message.get("until") or "",
    ]
    try:
        server = servers_of(settings.REDIS_URL, [names[1]], seconds=SECONDS_MAX)[names[1]]
        with redis.Redis.from_url(
            server, socket_timeout=SECONDS_MAX, socket_connect_timeout=SECONDS_MAX
        ) as client:
            # EVALSHA alone: nobody but the recovery controller may load a script.
            client.evalsha(scripts.load, 2, *names, *arguments)
    except redis.RedisError as error:
        log.info("what is in a wallet of %s was not told at once: %s", tenant_id, error)
