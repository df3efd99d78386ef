"""Who comes too often: a key, its tenant, or an address that guesses keys."""

from __future__ import annotations

import time
from typing import Final

from budgets.domain.policy import KeyRecord, Policy
from budgets.gateway.config import GatewayConfig
from budgets.gateway.request import Request
from noburn.kit.addresses import caller
from noburn.kit.problems import ProblemError
from noburn.kit.rates import Buckets, Rate, refused

BURST_SECONDS: Final = 2
"""For how many seconds' worth of calls may come at once."""
SECOND_LOOKS: Final = Rate(100, 100)
"""How many keys of addresses that guess are looked up all the same: somebody else may share the address."""


class Turnstile:
    """Counts for one gateway process. The rates are the installation's, or the tenant's own where its policy has one."""

    def __init__(self, config: GatewayConfig) -> None:
        self._key = _rate(config.key_calls_per_second)
        self._tenant = _rate(config.calls_per_second)
        self._guesses = Rate(config.wrong_keys_per_minute / 60, config.wrong_keys_per_minute)
        self._proxies = config.trusted_proxies
        self._keys, self._tenants, self._callers = Buckets(), Buckets(), Buckets()
        self._second_looks = Buckets()

    def passes(self, policy: Policy, key: KeyRecord) -> None:
        """Counts a call of a key. Raises ProblemError when the key or its tenant has called too often."""
        now, own = time.monotonic(), policy.calls_per_second
        tenant, each = (self._tenant, self._key) if own is None else (_rate(own), _rate(own))
        if wait := self._keys.take(key.key_id, each, now):
            raise refused("This API key", each, wait)
        if wait := self._tenants.take(policy.tenant_id, tenant, now):
            raise refused("This tenant", tenant, wait)

    def looks_up(self, request: Request) -> None:
        """Raises ProblemError when whoever asks has guessed too often, and so have others, for another look-up."""
        now = time.monotonic()
        wait = self._callers.wait(self._caller(request), self._guesses, now)
        if wait and self._second_looks.take("", SECOND_LOOKS, now):
            raise self._too_many(wait)

    def guessed(self, request: Request) -> None:
        """Counts a key that nobody knows. Raises ProblemError when the address has come with too many of them."""
        if wait := self._callers.take(self._caller(request), self._guesses, time.monotonic()):
            raise self._too_many(wait)

    def _too_many(self, wait: float) -> ProblemError:
        return refused("Your address, with API keys that no tenant knows,", self._guesses, wait)

    def _caller(self, request: Request) -> str:
        forwarded = request.headers.get(b"x-forwarded-for", b"").decode("latin-1")
        return caller(request.client, forwarded, proxies=self._proxies)


def _rate(per_second: int) -> Rate:
    return Rate(per_second, per_second * BURST_SECONDS)
