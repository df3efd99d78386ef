"""Tells Redis of a tenant's new policy version, so that the next script call with an older one is sent back to reload.

Best effort and quick: gateways poll PostgreSQL every few seconds and raise the version themselves.
"""

from __future__ import annotations

import json
import logging
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from django.db import connection

from budgets.stores.redis.keys import Keys, shard_of
from budgets.stores.redis.scripts import ScriptSet
from noburn.kit.redis_cluster import servers_of

log = logging.getLogger(__name__)

SECONDS_MAX = 0.5


def announce(*, tenant_id: UUID, version: int, **_: Any) -> None:
    """Raises the tenant's policy version in Redis. Receives `policy_published`; never raises."""
    shard = shard_of(tenant_id)
    with connection.cursor() as cursor:
        cursor.execute("SELECT epoch_id, scripts FROM epochs WHERE shard = %s AND state = 'open'", [shard])
        row = cursor.fetchone()
    if row is None:
        return
    keys, scripts = Keys(shard=shard, epoch_id=row[0]), ScriptSet(json.loads(row[1]))
    name = keys.policy(tenant_id)
    try:
        server = servers_of(settings.REDIS_URL, [name], seconds=SECONDS_MAX)[name]
        with redis.Redis.from_url(
            server, socket_timeout=SECONDS_MAX, socket_connect_timeout=SECONDS_MAX
        ) as client:
            # EVALSHA alone: nobody but the recovery controller may load a script.
            client.evalsha(scripts.version, 1, name, version)
    except redis.RedisError as error:
        log.info("policy version %d of %s was not announced: %s", version, tenant_id, error)
