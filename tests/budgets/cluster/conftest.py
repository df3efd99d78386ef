"""The money path on a Redis Cluster: the same fixtures as elsewhere, on three masters with a replica each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conftest import TEST_HOME

if TYPE_CHECKING:
    from tests.support.cluster import Cluster
    from tests.support.world import World


@pytest.fixture(scope="session")
def cluster(servers: dict[str, str]) -> Iterator[Cluster]:
    """Three masters and three replicas."""
    from tests.support.cluster import Cluster

    made = Cluster(TEST_HOME / "cluster")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _on_the_cluster(cluster: Cluster) -> Iterator[None]:
    from django.test import override_settings

    cluster.settle()
    with override_settings(
        REDIS_URL=cluster.url, REDIS_GATEWAY_URL=cluster.url, REDIS_CONTROL_URL=cluster.url
    ):
        yield


@pytest.fixture(scope="session")
def _clustered_world(real_database: None, cluster: Cluster) -> Iterator[World]:
    from django.test import override_settings

    from tests.support.world import World

    with override_settings(
        REDIS_URL=cluster.url, REDIS_GATEWAY_URL=cluster.url, REDIS_CONTROL_URL=cluster.url
    ):
        world = World()
    yield world
    world.close()


@pytest.fixture
def world(_clustered_world: World) -> World:
    """A gateway and an operator on the cluster, with an open epoch in every shard that is good for a minute."""
    _clustered_world.recover()
    return _clustered_world
