"""Burning: what settled calls are charged is taken from the credit of their wallets, exactly once, in the ledger's order.

Two steps, each whole or not at all. The ledger is read on, and every entry of a call that was held on a wallet becomes a
row that waits, in the transaction that moves the cursor. Then each wallet's rows are burnt and removed in one transaction
with its journal, so a worker may be killed anywhere and two may run at once. Presumed spending is put aside, not burnt.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import OperationalError, connection, transaction

from alerts.services.alerts import raise_alert
from billing.domain.pushing import next_close
from billing.domain.wallets import LAPSE, Draw, Purse
from billing.models import PostingKind, Wallet, WalletCursor, WalletEntry, WalletHold
from billing.services.journal import lock_wallet, post, purse_of, tell
from billing.services.wallet_charges import ChargesOf, Settled, charges_of
from billing.services.wallets import lapse
from noburn.kit import ids
from noburn.kit.money import to_usd

log = logging.getLogger(__name__)

STEP_ENTRIES: Final = 5_000
STEPS_MAX: Final = 20
BATCH: Final = 1_000
"""The most entries of one wallet that one transaction burns."""

WALLETS_MAX: Final = 1_000
"""The most wallets of one round; the next takes the rest, those that waited longest first."""

FIRST: Final = -(2**63)
SYSTEM: Final = "system"


@dataclass(frozen=True, slots=True)
class Burnt:
    """What one round did. `moved`: the database is a restored dump, and waits for its usage to be counted anew."""

    collected: int = 0
    wallets: int = 0
    entries: int = 0
    failed: int = 0
    busy: bool = False
    moved: bool = False


def burn(
    *,
    now: datetime,
    charges: ChargesOf = charges_of,
    seconds: float = 60.0,
    tenant_id: UUID | None = None,
) -> Burnt:
    """Reads the ledger on and burns what it says, for at most so many seconds. Raises OperationalError.

    `tenant_id`: burns the wallets of one tenant alone.
    """
    until = time.monotonic() + seconds
    collected = 0
    for _ in range(STEPS_MAX):
        step = _collect()
        if step is None:
            return Burnt(busy=True)
        if step.moved:
            return Burnt(moved=True)
        collected += step.entries
        if not step.more or time.monotonic() > until:
            break
    done = entries = failed = 0
    for wallet_id, of_tenant in _waiting(tenant_id):
        if time.monotonic() > until:
            break
        try:
            entries += _burn_wallet(of_tenant, wallet_id, now=now, charges=charges)
            done += 1
        except OperationalError:
            raise
        except Exception:
            # One wallet's trouble must not keep the others' from being burnt; it is tried again by the next round.
            log.exception("wallet %s was not burnt", wallet_id)
            failed += 1
    return Burnt(collected, done, entries, failed)


@dataclass(frozen=True, slots=True)
class _Step:
    entries: int
    more: bool
    moved: bool = False


def _collect() -> _Step | None:
    """Reads one stretch of the ledger; None if somebody else is at it."""
    with transaction.atomic():
        WalletCursor.objects.get_or_create(pk=1, defaults={"position": FIRST, "shift": 0})
        cursor = WalletCursor.objects.select_for_update(skip_locked=True).filter(pk=1).first()
        if cursor is None:
            return None
        with connection.cursor() as sql:
            sql.execute("SELECT nb_wallet_entries(%s, %s, %s)", [cursor.position, cursor.shift, STEP_ENTRIES])
            (told,) = sql.fetchone() or (None,)
        if told is None:
            return _Step(0, False, moved=True)
        found: dict[str, Any] = told if isinstance(told, dict) else json.loads(told)
        rows = found["entries"]
        # Whatever was read before, of a ledger that is read anew, is known by its revision.
        known = dict(
            WalletHold.objects.filter(hold_id__in=[row["hold"] for row in rows]).values_list(
                "hold_id", "revision"
            )
        )
        WalletEntry.objects.bulk_create(
            [
                WalletEntry(
                    tenant_id=UUID(row["tenant"]),
                    wallet_id=UUID(row["wallet"]),
                    hold_id=UUID(row["hold"]),
                    placed_month=row["month"],
                    revision=row["revision"],
                )
                for row in rows
                if row["revision"] > known.get(UUID(row["hold"]), 0)
            ],
            ignore_conflicts=True,
        )
        cursor.position, cursor.shift = found["next"], found["shift"]
        cursor.save(update_fields=["position", "shift"])
    return _Step(len(rows), bool(found["more"]))


def _waiting(tenant_id: UUID | None) -> list[tuple[UUID, UUID]]:
    with connection.cursor() as sql:
        sql.execute(
            """SELECT wallet_id, tenant_id FROM (SELECT wallet_id, tenant_id, min(id) AS first FROM billing_walletentry
                WHERE %s::uuid IS NULL OR tenant_id = %s GROUP BY 1, 2) AS w ORDER BY first LIMIT %s""",
            [tenant_id, tenant_id, WALLETS_MAX],
        )
        return [(row[0], row[1]) for row in sql.fetchall()]


@dataclass(kw_only=True, slots=True)
class _Call:
    """One hold as its ledger entries up to a revision say."""

    hold_id: UUID
    revision: int
    kind: str
    posted: int
    settled: Settled


_ENTRIES = """
SELECT l.hold_id, l.revision, l.kind, l.customer, l.provider, l.model, l.placed_at, l.cost_nano, l.requests, l.usage,
    coalesce((SELECT p.delta FROM unnest(l.counters, l.deltas) AS p (counter, delta) WHERE p.counter = %s), 0)
FROM unnest(%s::uuid[], %s::date[]) AS h (hold_id, placed_month)
JOIN ledger_entries l ON l.hold_id = h.hold_id AND l.placed_month = h.placed_month AND l.tenant_id = %s
ORDER BY l.hold_id, l.revision
"""


def _calls(wallet: Wallet, waiting: Sequence[WalletEntry]) -> list[_Call]:
    """The waiting entries in their order, each with all that its hold's ledger says up to its revision."""
    holds = sorted({(entry.hold_id, entry.placed_month) for entry in waiting})
    with connection.cursor() as sql:
        sql.execute(
            _ENTRIES,
            [wallet.pk, [hold for hold, _ in holds], [month for _, month in holds], wallet.tenant_id],
        )
        rows = sql.fetchall()
    upto: dict[tuple[UUID, int], _Call] = {}
    before: _Call | None = None
    for hold_id, revision, kind, customer, provider, model, placed_at, cost, requests, usage, delta in rows:
        same = before if before is not None and before.hold_id == hold_id else None
        told = json.loads(usage) if isinstance(usage, str) else usage
        state = same.kind if same is not None and kind == "rerated" else kind
        before = _Call(
            hold_id=hold_id,
            revision=revision,
            kind=state,
            posted=delta + (same.posted if same else 0),
            settled=Settled(
                customer=customer,
                provider=provider,
                model=model,
                placed_at=placed_at,
                cost_nano=cost + (same.settled.cost_nano if same else 0),
                requests=requests + (same.settled.requests if same else 0),
                usage=told if told is not None else (same.settled.usage if same else None),
            ),
        )
        upto[hold_id, revision] = before
    return [upto[entry.hold_id, entry.revision] for entry in waiting]


def _burn_wallet(tenant_id: UUID, wallet_id: UUID, *, now: datetime, charges: ChargesOf) -> int:
    """Burns up to BATCH waiting entries of one wallet; returns how many."""
    with transaction.atomic():
        wallet = lock_wallet(tenant_id=tenant_id, wallet_id=wallet_id)
        waiting = list(
            WalletEntry.objects.filter(tenant_id=tenant_id, wallet_id=wallet_id).order_by("pk")[:BATCH]
        )
        if not waiting:
            return 0
        holds = {
            hold.hold_id: hold
            for hold in WalletHold.objects.filter(
                tenant_id=tenant_id, hold_id__in={entry.hold_id for entry in waiting}
            )
        }
        calls = [
            call
            for call in _calls(wallet, waiting)
            if call.hold_id not in holds or call.revision > holds[call.hold_id].revision
        ]
        drawn = {UUID(grant) for hold in holds.values() for grant, _ in hold.draws if grant is not None}
        purse = purse_of(wallet, also=drawn)
        settled = [call for call in calls if call.kind == "settled"]
        exact = iter(charges(tenant_id, [call.settled for call in settled]))
        for call in calls:
            hold = holds.get(call.hold_id)
            if hold is None:
                hold = holds[call.hold_id] = WalletHold(
                    id=ids.new_uuid(now),
                    tenant_id=tenant_id,
                    wallet_id=wallet_id,
                    hold_id=call.hold_id,
                    revision=0,
                    placed_at=call.settled.placed_at,
                    posted_nano=0,
                    charged_nano=0,
                    presumed_nano=0,
                    draws=[],
                )
            _burn_call(purse, wallet, hold, call, next(exact) if call.kind == "settled" else 0)
        changed = [holds[hold_id] for hold_id in dict.fromkeys(call.hold_id for call in calls)]
        WalletHold.objects.bulk_create(
            changed,
            update_conflicts=True,
            unique_fields=["hold_id"],
            update_fields=["revision", "posted_nano", "charged_nano", "presumed_nano", "draws"],
        )
        post(wallet, purse, kind=PostingKind.BURN, actor=SYSTEM, now=now, calls=len(changed))
        if purse.owed > 0 and purse.repay(now=now):
            post(wallet, purse, kind=PostingKind.REPAY, actor=SYSTEM, now=now)
        wallet.true_up_at = min(wallet.true_up_at, next_close(now))
        wallet.save(update_fields=["burnt_nano", "true_up_at"])
        tell(wallet, purse.credits.values(), now=now)
        _tell_if_low(wallet, purse, now)
        WalletEntry.objects.filter(pk__in=[entry.pk for entry in waiting]).delete()
    return len(waiting)


def _burn_call(purse: Purse, wallet: Wallet, hold: WalletHold, call: _Call, charge: int) -> None:
    """Puts back what the hold took before, and takes what it is to take now; the lines come to the difference."""
    draws: list[Draw] = [(UUID(grant) if grant else None, nano) for grant, nano in hold.draws]
    if draws:
        purse.give_back(draws, out_of="presumed" if hold.presumed_nano else "revenue")
    presumed = call.posted if call.kind == "presumed" else 0
    taken = purse.draw(
        presumed or charge,
        placed_at=call.settled.placed_at,
        into="presumed" if call.kind == "presumed" else "revenue",
    )
    wallet.burnt_nano += call.posted - hold.posted_nano
    hold.revision, hold.posted_nano = call.revision, call.posted
    hold.charged_nano, hold.presumed_nano = charge, presumed
    hold.draws = [[str(grant) if grant else None, nano] for grant, nano in taken]


def _tell_if_low(wallet: Wallet, purse: Purse, now: datetime) -> None:
    balance = purse.balance(now)
    if wallet.low_nano is None or balance > wallet.low_nano or wallet.low_told_at is not None:
        return
    wallet.low_told_at = now
    wallet.save(update_fields=["low_told_at"])
    raise_alert(
        tenant_id=wallet.tenant_id,
        kind="wallet_low",
        dedupe_key=f"wallet_low:{wallet.pk}:{now.isoformat()}",
        subject=ids.encode(ids.WALLET, wallet.pk),
        details={
            "customer": wallet.customer,
            "balance_usd": to_usd(balance),
            "low_usd": to_usd(wallet.low_nano),
        },
        now=now,
    )


def lapse_all(*, now: datetime) -> int:
    """Ends credit that lapsed, of wallets of which everything is burnt; returns how many grants that were.

    Raises OperationalError.
    """
    done = burn(now=now)
    if done.busy or done.moved:
        return 0
    with connection.cursor() as sql:
        sql.execute(
            """SELECT DISTINCT g.tenant_id, g.wallet_id FROM billing_creditgrant g
            WHERE g.remaining_nano > 0 AND (g.expires_at <= %s OR g.voided_at <= %s)
                AND NOT EXISTS (SELECT FROM billing_walletentry e WHERE e.wallet_id = g.wallet_id)
            ORDER BY 1, 2 LIMIT %s""",
            [now - LAPSE, now - LAPSE, WALLETS_MAX],
        )
        due = sql.fetchall()
    return sum(lapse(tenant_id=tenant, wallet_id=wallet, now=now) for tenant, wallet in due)
