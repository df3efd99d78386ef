"""The outbox as its senders see it: what is due, who may send, and how much an account takes a second."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

from django.db import connection

ACCOUNTS_MAX = 200

Sender = tuple[UUID, UUID]
"""Whose meter one sender at a time tells of: a tenant and its customer, or a tenant and its plan."""


def accounts_with_due(*, now: datetime) -> list[UUID]:
    """Accounts that are ready and have something due, up to 200, in an order that changes with time."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT a.id FROM billing_stripeaccount a
            WHERE a.state = 'ready' AND (a.paused_until IS NULL OR a.paused_until <= %(now)s)
                AND EXISTS (SELECT 1 FROM billing_measurement m WHERE m.tenant_id = a.tenant_id
                    AND m.state = 'pending' AND m.next_attempt_at <= %(now)s)
            ORDER BY a.bucket_at, a.id LIMIT %(limit)s""",
            {"now": now, "limit": ACCOUNTS_MAX},
        )
        return [row[0] for row in cursor.fetchall()]


def heads(*, tenant_id: UUID, now: datetime, limit: int) -> list[tuple[UUID, UUID]]:
    """The oldest pending measurement of each customer, where it is due, with its customer; the longest due first."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT h.id, h.customer_id FROM (
                SELECT DISTINCT ON (customer_id) id, customer_id, next_attempt_at FROM billing_measurement
                WHERE tenant_id = %(tenant)s AND state = 'pending'
                ORDER BY customer_id, window_starts_at, seq) AS h
            WHERE h.next_attempt_at <= %(now)s ORDER BY h.next_attempt_at, h.id LIMIT %(limit)s""",
            {"tenant": tenant_id, "now": now, "limit": limit},
        )
        return [(row[0], row[1]) for row in cursor.fetchall()]


def report_heads(*, now: datetime, limit: int) -> list[tuple[UUID, Sender]]:
    """The oldest pending report of each tenant's plan, where it is due, with whose it is; the longest due first."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT h.id, h.tenant_id, h.account_id FROM (
                SELECT DISTINCT ON (tenant_id) id, tenant_id, account_id, next_attempt_at FROM billing_planreport
                WHERE state = 'pending' ORDER BY tenant_id, hour, seq) AS h
            WHERE h.next_attempt_at <= %(now)s ORDER BY h.next_attempt_at, h.id LIMIT %(limit)s""",
            {"now": now, "limit": limit},
        )
        return [(row[0], (row[1], row[2])) for row in cursor.fetchall()]


def take_tokens(*, account_id: UUID, wanted: int, rate: int, now: datetime) -> int:
    """Takes up to `wanted` of an account's requests, `rate` a second with as many in store; returns how many were had."""
    if not wanted:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            """WITH held AS (
                SELECT id, least(%(rate)s, bucket_tokens + floor(%(rate)s
                    * greatest(0, extract(epoch FROM %(now)s::timestamptz - bucket_at)))::bigint) AS tokens
                FROM billing_stripeaccount WHERE id = %(account)s FOR NO KEY UPDATE),
            taken AS (SELECT id, tokens, least(tokens, %(wanted)s) AS granted FROM held)
            UPDATE billing_stripeaccount a SET bucket_tokens = t.tokens - t.granted,
                bucket_at = CASE WHEN t.granted > 0 THEN greatest(a.bucket_at, %(now)s) ELSE a.bucket_at END
            FROM taken t WHERE a.id = t.id RETURNING t.granted""",
            {"account": account_id, "wanted": wanted, "rate": rate, "now": now},
        )
        row = cursor.fetchone()
        return 0 if row is None else int(row[0])


def lock(*, tenant_id: UUID, customer_id: UUID) -> bool:
    """Takes the lock of a customer's meter for this connection, if nobody has it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_lock_id(tenant_id, customer_id)])
        row = cursor.fetchone()
        return bool(row and row[0])


def unlock(*, tenant_id: UUID, customer_id: UUID) -> None:
    """Gives it back."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock(%s)", [_lock_id(tenant_id, customer_id)])


@contextmanager
def alone(wanted: Iterable[Sender]) -> Iterator[set[Sender]]:
    """Takes the lock of each of some meters that is free, for as long as the block runs; yields whose locks were had.

    Locks of the session: they end with the worker's connection, however it dies.
    """
    mine = {each for each in wanted if lock(tenant_id=each[0], customer_id=each[1])}
    try:
        yield mine
    finally:
        for tenant_id, customer_id in mine:
            unlock(tenant_id=tenant_id, customer_id=customer_id)


def _lock_id(tenant_id: UUID, customer_id: UUID) -> int:
    digest = hashlib.blake2b(tenant_id.bytes + customer_id.bytes, digest_size=8, person=b"nb push").digest()
    return int.from_bytes(digest, "big", signed=True)
