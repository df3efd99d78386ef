"""Answers to POSTs of the management API, so that a repeated one is answered and not done again."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from tenants.models.base import TenantOwned


class IdempotentAnswer(TenantOwned):
    """What a POST with this Idempotency-Key answered; `digest` tells whether another one asks the same.

    Only answers of changes that were made are kept: a refused one changed nothing and may be tried again. No
    secret is in `body`: whoever shows one once gives a body without it to be kept.
    """

    key = models.CharField(max_length=255)
    digest = models.BinaryField(max_length=32)
    status = models.SmallIntegerField()
    body = models.JSONField(null=True)
    headers = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_default=Now(), db_index=True)

    class Meta:
        constraints = [
            *TenantOwned.Meta.constraints,
            models.UniqueConstraint(fields=["tenant", "key"], name="tenants_idempotentanswer_key_once"),
        ]

    def __str__(self) -> str:
        return self.key
