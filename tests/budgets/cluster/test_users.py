"""The users of Redis in a cluster: every master and replica knows them, and noburn works as them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from typing import TYPE_CHECKING

import pytest
import redis
from django.core.management import call_command
from django.test import override_settings

from noburn.runtime.checks import user_faults
from noburn.runtime.redis_users import VARIABLES

if TYPE_CHECKING:
    from tests.support.cluster import Cluster

pytestmark = pytest.mark.real_db


@pytest.fixture
def urls(cluster: Cluster) -> Iterator[dict[str, str]]:
    """The users' addresses, made as an operator makes them."""
    out, err = StringIO(), StringIO()
    call_command("redis", "users", "--admin-url", cluster.url, "--json", stdout=out, stderr=err)
    # None of these servers has an ACL file.
    assert err.getvalue().count("forgets these users") == len(cluster.nodes)
    yield json.loads(out.getvalue())
    for node in cluster.nodes:
        node("ACL", "DELUSER", *VARIABLES.values())


class TestUsers:
    def test_are_known_to_every_server_and_do_all_that_noburn_does(
        self, cluster: Cluster, urls: dict[str, str]
    ) -> None:
        from tests.support.world import World

        for node in cluster.nodes:
            assert set(VARIABLES.values()) <= set(node("ACL", "USERS"))
        names = {
            "redis_url": "REDIS_URL",
            "gateway_url": "REDIS_GATEWAY_URL",
            "control_url": "REDIS_CONTROL_URL",
        }
        assert user_faults(**{name: urls[variable] for name, variable in names.items()}) == []
        seeds = urls["REDIS_GATEWAY_URL"].replace("redis-cluster://", "redis://").partition(",")[0]
        with redis.Redis.from_url(seeds) as client, pytest.raises(redis.exceptions.NoPermissionError):
            client.flushall()
        with override_settings(**urls):
            world = World()
            try:
                world.recover()
                alice = world.account("alice")
                alice.budget("acme", "$1.00")
                alice.settle(alice.place("$0.40"), "$0.25")
                assert alice.place("$0.90").decision == "budget_exceeded"
                world.sweep()
                assert alice.remaining("acme") == 750_000_000
            finally:
                world.close()
