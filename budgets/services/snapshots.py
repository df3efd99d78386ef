"""The policies that a gateway holds in memory: found by API key, polled for changes, fenced by version in Redis."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from uuid import UUID

from budgets.domain import policy as policies
from budgets.domain.charging import Ceilings
from budgets.domain.demands import Matcher
from budgets.domain.policy import KeyRecord, Policy
from budgets.domain.pricing_overrides import TenantPrices
from budgets.services.epochs import EpochDirectory
from budgets.services.flights import Flights
from budgets.services.polling import Poller
from budgets.stores.postgres.money import MoneyStore
from budgets.stores.redis.connection import RedisClient, RedisError, RedisUnavailable
from noburn.kit import ids

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0
TENANTS_MAX = 10_000
UNKNOWN_MAX = 10_000
UNKNOWN_SECONDS = 2.0


class Snapshot:
    """A tenant's policy with what is derived from it."""

    __slots__ = (
        "ceilings",
        "guards",
        "key_ids",
        "keys",
        "learned",
        "matcher",
        "named",
        "policy",
        "prices",
        "projects",
    )

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.matcher = Matcher(policy)
        self.keys: dict[bytes, KeyRecord] = {key.digest: key for key in policy.keys}
        self.key_ids = {key.key_id: ids.encode(ids.API_KEY, key.key_id) for key in policy.keys}
        self.projects = frozenset(policy.projects)
        # By either of its names, for callers who know a project by its id.
        self.named = {name: name for name in policy.projects} | {
            ids.encode(ids.PROJECT, key): name
            for key, name in zip(policy.project_ids, policy.projects, strict=False)
        }
        self.guards = policy.guards
        # None for tenants without wallets, who pay nothing for them.
        self.ceilings = Ceilings(policy.wallet.charges) if policy.wallet is not None else None
        self.learned = {(rule.provider, rule.model): rule for rule in policy.learned}
        # None for most tenants, whose calls are then priced by the book alone.
        self.prices = TenantPrices(policy.price_overrides) if policy.price_overrides else None


class Snapshots:
    """Policies by tenant and by key digest. Bounded: the least recently used tenant leaves first."""

    def __init__(self, *, store: MoneyStore, redis: RedisClient, epochs: EpochDirectory) -> None:
        self._store, self._redis, self._epochs = store, redis, epochs
        self._by_tenant: OrderedDict[UUID, Snapshot] = OrderedDict()
        self._tenant_of: dict[bytes, UUID] = {}
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        # A burst finds a policy missing or old all at once: it reads it once, or it would use up the connections.
        self._by_digest: Flights[bytes, tuple[Snapshot, KeyRecord] | None] = Flights()
        self._refreshing: Flights[tuple[UUID, int], None] = Flights()
        self._poller = Poller(self._reload, seconds=POLL_SECONDS, what="policies")

    async def start(self) -> None:
        """Goes on polling for newer versions."""
        self._poller.start()

    async def stop(self) -> None:
        """Stops polling."""
        await self._poller.stop()

    def get(self, tenant_id: UUID) -> Snapshot | None:
        """The tenant's policy if it is held."""
        return self._by_tenant.get(tenant_id)

    def held(self, digests: Sequence[bytes]) -> tuple[Snapshot, KeyRecord] | None:
        """The policy and the record of a key that is in memory, under any of its digests; None if it is not."""
        for digest in digests:
            if (found := self._held(digest)) is not None:
                return found
        return None

    def missing(self, digests: Sequence[bytes]) -> bool:
        """Whether a key was looked up a moment ago, under each of its digests, and no tenant knew it."""
        now = asyncio.get_running_loop().time()
        return all(self._unknown.get(digest, 0.0) > now for digest in digests)

    async def by_key(self, digest: bytes) -> tuple[Snapshot, KeyRecord] | None:
        """The policy and the record of a key, revoked and expired ones included; None if no tenant knows it.

        Raises StorageUnavailable if the key is not held and PostgreSQL cannot be asked.
        """
        found = self._held(digest)
        if found is not None:
            return found
        if self._unknown.get(digest, 0.0) > asyncio.get_running_loop().time():
            return None
        return await self._by_digest.share(digest, lambda: self._read(digest))

    def _held(self, digest: bytes) -> tuple[Snapshot, KeyRecord] | None:
        tenant = self._tenant_of.get(digest)
        if tenant is not None and (snapshot := self._by_tenant.get(tenant)) is not None:
            record = snapshot.keys.get(digest)
            if record is not None:
                self._by_tenant.move_to_end(tenant)
                return snapshot, record
        return None

    async def _read(self, digest: bytes) -> tuple[Snapshot, KeyRecord] | None:
        # Whoever came while an earlier reading was under way may find it done.
        found = self._held(digest)
        if found is not None:
            return found
        row = await self._store.policy_by_key(digest)
        if row is None:
            # Remembered for moments only: a key that was just issued must work at once elsewhere, and soon here.
            self._unknown[digest] = asyncio.get_running_loop().time() + UNKNOWN_SECONDS
            if len(self._unknown) > UNKNOWN_MAX:
                self._unknown.popitem(last=False)
            return None
        snapshot = self._keep(row[2])
        record = snapshot.keys.get(digest)
        return (snapshot, record) if record is not None else None

    def _keep(self, body: bytes) -> Snapshot:
        policy = policies.decode(body)
        held = self._by_tenant.get(policy.tenant_id)
        if held is not None and held.policy.version >= policy.version:
            return held
        snapshot = Snapshot(policy)
        self._by_tenant[policy.tenant_id] = snapshot
        self._by_tenant.move_to_end(policy.tenant_id)
        for digest in snapshot.keys:
            self._tenant_of[digest] = policy.tenant_id
        if len(self._by_tenant) > TENANTS_MAX:
            _, dropped = self._by_tenant.popitem(last=False)
            for digest in dropped.keys:
                self._tenant_of.pop(digest, None)
        return snapshot

    async def refresh(self, tenant_id: UUID, *, seen: int) -> None:
        """Reads the tenant's policy anew because a script called ours stale; `seen` is the version Redis knows, 0: none.

        Raises StorageUnavailable.
        """
        await self._refreshing.share((tenant_id, seen), lambda: self._refresh(tenant_id, seen))

    async def _refresh(self, tenant_id: UUID, seen: int) -> None:
        held = self._by_tenant.get(tenant_id)
        if held is not None and 0 < seen <= held.policy.version:
            # Whoever came while an earlier reading was under way may find it done.
            return
        for _, _, body in await self._store.policies_newer(
            [(tenant_id, held.policy.version if held else -1)]
        ):
            held = self._keep(body)
        if seen == 0 and held is not None:
            await self._announce(tenant_id, held.policy.version)

    async def newest(self, tenant_id: UUID) -> Snapshot | None:
        """The tenant's policy, read anew if Redis knows a later version: before it refuses what an edit may have allowed.

        Raises StorageUnavailable.
        """
        held, epoch = self._by_tenant.get(tenant_id), self._epochs.current(tenant_id)
        if held is None or epoch is None:
            return held
        try:
            version = int(await self._redis.call("GET", epoch.keys.policy(tenant_id)) or 0)
        except (RedisUnavailable, RedisError) as error:
            log.info("the policy's version cannot be read: %s", error)
            return held
        if version > held.policy.version:
            await self.refresh(tenant_id, seen=version)
        return self._by_tenant.get(tenant_id)

    async def _announce(self, tenant_id: UUID, version: int) -> None:
        epoch = self._epochs.current(tenant_id)
        if epoch is None:
            return
        try:
            await self._redis.evalsha(epoch.scripts.version, [epoch.keys.policy(tenant_id)], [version])
        except (RedisUnavailable, RedisError) as error:
            log.info("a policy version did not arrive: %s", error)

    async def _reload(self) -> None:
        held = [(tenant, snapshot.policy.version) for tenant, snapshot in self._by_tenant.items()]
        if not held:
            return
        for tenant, version, body in await self._store.policies_newer(held):
            # The message that should have raised the version was lost, or is on its way.
            self._keep(body)
            await self._announce(tenant, version)
