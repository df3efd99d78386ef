"""A slot that moves, a master that dies, one that is silent: what each costs the shards concerned, and no others."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command

from budgets.stores.redis.cluster import RedisCluster
from budgets.stores.redis.connection import NoScript, RedisConnection, RedisError, RedisUnavailable
from budgets.stores.redis.keys import epoch_key
from noburn.kit.redis_cluster import seeds_of, slot_of
from noburn.runtime.checks import redis_faults

if TYPE_CHECKING:
    from tests.support.asgi import Answer
    from tests.support.cluster import Cluster, Node
    from tests.support.world import Account, World

pytestmark = pytest.mark.real_db

LIMIT = "$3"
CALLS_BEFORE = 20
CLIENTS_EACH = 2
ROUNDS_MAX = 6_000


class Load:
    """Clients of one tenant on each master, who go on calling whatever happens, with a controller beside them."""

    def __init__(self, world: World, cluster: Cluster) -> None:
        self.world, self.cluster = world, cluster
        self.accounts: dict[Node, Account] = {}
        while len(self.accounts) < 3:
            account = world.account("alice")
            self.accounts.setdefault(cluster.master_of(slot_of(epoch_key(account.shard))), account)
        for account in self.accounts.values():
            account.budget("acme", LIMIT)
        self.answers: dict[Account, Counter[str]] = {account: Counter() for account in self.accounts.values()}
        self.settled: dict[Account, int] = dict.fromkeys(self.accounts.values(), 0)
        self.stopping = False

    async def client(self, account: Account, seed: int) -> None:
        """Places, and settles most of it a moment later; repeats what was answered by a 503."""
        chance = random.Random(seed)
        open_holds: list[Answer] = []
        for _ in range(ROUNDS_MAX):
            if self.stopping:
                break
            answer = await account.placing(f"$0.{chance.randint(1, 60):02}")
            self.answers[account][answer.decision if answer.status == 200 else str(answer.status)] += 1
            if answer.status == 200 and answer.decision == "allow":
                open_holds.append(answer)
            await asyncio.sleep(0.002 if answer.status == 200 else 0.02)
            if open_holds and chance.random() < 0.7:
                await self.settle(account, open_holds.pop(0), chance.randint(0, 1_000_000))
        for hold in open_holds:
            await self.settle(account, hold, chance.randint(0, 1_000_000))

    async def settle(self, account: Account, hold: Answer, nano: int) -> None:
        """A settlement of a little, so that the limit lasts; acknowledged, whatever happens to Redis."""
        answer = await account.settling(hold, f"$0.{nano:09}")
        assert answer.status == 200, answer
        self.settled[account] += nano

    def through(self, mishap: Callable[[], object]) -> None:
        """Loads the cluster, lets the mishap happen, and goes on until every tenant is served again."""

        async def scene() -> None:
            controller = asyncio.create_task(self.world.operations.control())
            clients = [
                asyncio.create_task(self.client(account, 10 * number + one))
                for number, account in enumerate(self.accounts.values())
                for one in range(CLIENTS_EACH)
            ]
            try:
                await self.served(CALLS_BEFORE)
                await asyncio.to_thread(mishap)
                await self.served(CALLS_BEFORE)
            finally:
                self.stopping = True
                await asyncio.gather(*clients)
                controller.cancel()
                await asyncio.gather(controller, return_exceptions=True)

        self.world.run(scene())

    async def served(self, more: int) -> None:
        """Returns when every tenant has been decided about so many more calls."""
        goal = {account: self.decided(account) + more for account in self.answers}
        for _ in range(ROUNDS_MAX):
            if all(self.decided(account) >= goal[account] for account in goal):
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"never served again: {self.answers}")

    def decided(self, account: Account) -> int:
        """How many calls of a tenant were decided about."""
        return sum(count for what, count in self.answers[account].items() if not what.isdigit())

    def check(self) -> None:
        """Nothing is lost, nothing is above its limit, every figure is exact, and calls were refused as well."""
        for account in self.accounts.values():
            account.world.recover()
            account.place("$0.01")
            found = account.counter("acme")
            assert found["spent"] == self.settled[account] == sum(row["cost"] for row in account.ledger())
            assert found["spent"] + found["authority"] <= found["limit"]
            assert not account.verify().differences
        total = sum(self.answers.values(), Counter())
        assert total["allow"]
        assert total["budget_busy"] + total["budget_exceeded"], total


def epochs(world: World) -> dict[int, Any]:
    return {row.shard: row.epoch_id for row in world.run(world.operations.status()).epochs}


@pytest.fixture
def load(world: World, cluster: Cluster) -> Load:
    return Load(world, cluster)


class TestSlotMigration:
    @pytest.mark.parametrize("way", ["key by key", "at once"])
    def test_closes_the_epoch_of_that_slot_alone(
        self, world: World, cluster: Cluster, load: Load, way: str
    ) -> None:
        (source, account), (target, _), _ = load.accounts.items()
        slot, before = slot_of(epoch_key(account.shard)), epochs(world)

        def move() -> None:
            if way == "key by key":
                cluster.migrate(slot, target, half_way=lambda: self.hear(load, account))
            else:
                source("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id)
                from tests.support.cluster import wait_until

                wait_until("the slot has moved", lambda: cluster.master_of(slot) is target)

        load.through(move)
        after = epochs(world)
        assert {shard for shard in before if before[shard] != after[shard]} == {account.shard}
        assert [self.answers(load, one)["503"] for one in load.accounts.values() if one is not account] == [
            0,
            0,
        ]
        load.check()

    def answers(self, load: Load, account: Account) -> Counter[str]:
        return load.answers[account]

    def hear(self, load: Load, account: Account) -> None:
        """Lets some calls meet the slot while it is half here and half there."""
        from tests.support.cluster import wait_until

        heard = sum(load.answers[account].values())
        wait_until("an answer in the middle", lambda: sum(load.answers[account].values()) > heard)

    def test_strands_only_open_holds_when_the_shard_is_closed_before(
        self, world: World, cluster: Cluster
    ) -> None:
        alice = world.account("alice")
        alice.budget("acme", "$1")
        alice.settle(alice.place("$0.40"), "$0.25")
        held = alice.place("$0.10")
        call_command("epoch", "close", "--shards", f"{alice.shard}", stdout=io.StringIO())
        slot = slot_of(epoch_key(alice.shard))
        target = next(node for node in cluster.masters() if node is not cluster.master_of(slot))
        cluster.migrate(slot, target)
        assert world.recover() == 1
        assert [row["authority"] for row in alice.stranded()] == [100_000_000]
        assert alice.place("$0.65").decision == "allow"
        assert alice.settle(held, "$0.10")["state"] == "settled"
        assert not alice.stranded()
        assert not alice.verify().differences


class TestFailover:
    def test_closes_the_epochs_of_that_master_alone(self, world: World, cluster: Cluster, load: Load) -> None:
        (master, account), *others = load.accounts.items()
        concerned, before = cluster.shards_of(master), epochs(world)
        assert account.shard in concerned
        try:
            load.through(lambda: cluster.fail_over(master))
            # The shards without callers may have been left to the controller's next round.
            world.recover()
            after = epochs(world)
            assert {shard for shard in before if before[shard] != after[shard]} == concerned
            assert [load.answers[one]["503"] for _, one in others] == [0, 0]
            load.check()
        finally:
            cluster.revive(master)


class TestSilentMaster:
    def test_keeps_its_own_shards_waiting_and_no_others(
        self, world: World, cluster: Cluster, load: Load, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("budgets.stores.redis.connection.CALL_SECONDS", 0.5)
        (master, mine), (_, other), _ = load.accounts.items()
        replica = next(n for n in cluster.nodes if n.info("replication").get("master_port") == master.port)
        holds = {account: account.place("$0.10") for account in (mine, other)}
        before = epochs(world)
        for account, hold in holds.items():
            account.expire(hold)
        # Nobody takes its place.
        replica.client.config_set("cluster-replica-no-failover", "yes")
        os.kill(master.process.pid, signal.SIGSTOP)
        try:
            refused = mine.place("$0.10")
            assert (refused.status, refused.kind) == (503, "counters-unavailable")
            assert other.place("$0.10").decision == "allow"
            assert world.recover() == 0
            with pytest.raises(RedisUnavailable):
                world.sweep()
            assert other.counter("acme")["spent"] == 100_000_000
            assert world.request("GET", "/readyz").status == 200
        finally:
            os.kill(master.process.pid, signal.SIGCONT)
            cluster.settle()
            replica.client.config_set("cluster-replica-no-failover", "no")
        world.sweep()
        assert mine.counter("acme")["spent"] == 100_000_000
        assert mine.place("$0.10").decision == "allow"
        assert epochs(world) == before
        assert not mine.verify().differences


class TestClient:
    def run(self, cluster: Cluster, work: Callable[[RedisCluster], Any]) -> Any:
        async def connected() -> Any:
            client = RedisCluster(cluster.url)
            try:
                return await work(client)
            finally:
                await client.close()

        return asyncio.run(connected())

    def test_follows_a_slot_to_its_new_master_and_into_the_middle_of_its_move(self, cluster: Cluster) -> None:
        slot = slot_of("{nb00}:a")
        target = next(node for node in cluster.masters() if node is not cluster.master_of(slot))

        async def work(client: RedisCluster) -> None:
            await client.call("SET", "{nb00}:a", "1")
            await client.call("SET", "{nb00}:b", "2")
            source = cluster.begin_migration(slot, target)
            source("MIGRATE", "127.0.0.1", target.port, "{nb00}:a", 0, 5000)
            # One has moved, one has not: each is found where it is, and what needs both waits in vain.
            assert await client.call("GET", "{nb00}:a") == b"1"
            assert await client.call("GET", "{nb00}:b") == b"2"
            with pytest.raises(RedisUnavailable, match="TRYAGAIN"):
                await client.call("MGET", "{nb00}:a", "{nb00}:b")
            with pytest.raises(NoScript):
                await client.evalsha("0" * 40, ["{nb00}:a"], [])
            cluster.migrate(slot, target)
            assert await client.call("MGET", "{nb00}:a", "{nb00}:b") == [b"1", b"2"]
            assert (await client.near("{nb00}:a")) is client._node(client._owners[slot] or "")
            assert await client.call("UNLINK", "{nb00}:a", "{nb00}:b") == 2

        self.run(cluster, work)

    def test_refuses_a_script_whose_keys_are_not_on_one_server(self, cluster: Cluster) -> None:
        async def work(client: RedisCluster) -> None:
            with pytest.raises(RedisError, match="CROSSSLOT"):
                await client.evalsha("0" * 40, ["{nb00}:a", "{nb01}:a"], [])

        self.run(cluster, work)

    def test_is_told_when_nobody_is_there(self) -> None:
        async def work() -> None:
            client = RedisCluster("redis-cluster://127.0.0.1:1,127.0.0.1:2")
            with pytest.raises(RedisUnavailable):
                await client.ping()
            with pytest.raises(RedisUnavailable, match="no master has slot"):
                await client.call("GET", "{nb00}:a")
            await client.close()

        asyncio.run(work())

    def test_sends_nothing_between_a_server_s_word_to_ask_and_the_question(self, cluster: Cluster) -> None:
        slot = slot_of("{nb00}:a")
        target = next(node for node in cluster.masters() if node is not cluster.master_of(slot))

        async def work(_: RedisCluster) -> None:
            cluster.begin_migration(slot, target)
            there = RedisConnection(f"redis://127.0.0.1:{target.port}")
            # Only what was to be asked is let in; its neighbours in the same write are sent back.
            asked = [there.call("GET", "{nb00}:a", asking=number % 2 == 0) for number in range(10)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            await there.close()
            assert [str(one).split()[0] for one in answers] == ["None", "MOVED"] * 5
            cluster.migrate(slot, target)

        self.run(cluster, work)


class TestAddress:
    def test_names_several_servers_with_one_login(self) -> None:
        assert seeds_of("rediss-cluster://u:p@a:1,[::1]:2") == ["rediss://u:p@a:1", "rediss://u:p@[::1]:2"]

    @pytest.mark.parametrize(
        "url", ["redis-cluster://", "redis-cluster://a", "redis-cluster://a:1/3", "redis://a:1"]
    )
    def test_is_refused_where_it_names_none(self, url: str) -> None:
        with pytest.raises(ValueError, match="cluster"):
            seeds_of(url)


class TestBootCheck:
    def test_looks_at_every_master(self, cluster: Cluster) -> None:
        assert redis_faults(cluster.url) == []
        odd = cluster.masters()[-1]
        odd.client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            (fault,) = redis_faults(cluster.url)
        finally:
            odd.client.config_set("maxmemory-policy", "noeviction")
        assert (fault.id, f"127.0.0.1:{odd.port}" in fault.message) == ("noburn.E003", True)

    def test_tells_one_server_from_a_cluster(self, cluster: Cluster, redis_url: str) -> None:
        (fault,) = redis_faults(f"redis://127.0.0.1:{cluster.nodes[0].port}")
        assert fault.id == "noburn.E006"
        assert redis_faults(redis_url) == []


class TestEpochCommand:
    def test_shows_where_each_shard_is(self, cluster: Cluster) -> None:
        said = io.StringIO()
        call_command("epoch", "slots", "--json", stdout=said)
        found = {row["shard"]: row for row in json.loads(said.getvalue())["shards"]}
        assert sorted(found) == list(range(64))
        for shard in (0, 63):
            slot = slot_of(epoch_key(shard))
            assert found[shard] == {
                "shard": shard,
                "slot": slot,
                "server": f"127.0.0.1:{cluster.master_of(slot).port}",
            }

    @pytest.mark.parametrize("shards", ["64", "7-3", "x", "1,,2", "0-99999999999"])
    def test_refuses_shards_that_do_not_exist(self, shards: str) -> None:
        with pytest.raises(CommandError, match="--shards"):
            call_command("epoch", "close", "--shards", shards)
