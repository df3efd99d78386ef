"""A Redis Cluster on this machine: three masters with a replica each, put together by commands alone."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from budgets.domain.escrow import SHARDS
from budgets.stores.redis.keys import epoch_key
from noburn.kit.redis_cluster import SLOTS, slot_of
from noburn.runtime.home import Home
from noburn.runtime.servers import Counters, launch_argv, plain_environment

MASTERS = 3
NODE_TIMEOUT_MS = 3_000
"""Longer than a busy machine keeps a server waiting: a failover that nobody asked for ends epochs amid a story."""
WAIT_SECONDS = 60.0
POLL_SECONDS = 0.02
KEYS_AT_ONCE = 10
_FAILED = re.compile(r"\bfail\b")


def wait_until(what: str, true: Callable[[], object]) -> None:
    """Returns once it is true. Raises AssertionError if it never is."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if true():
            return
        time.sleep(POLL_SECONDS)
    raise AssertionError(f"never came: {what}")


class Node:
    """One server of the cluster."""

    def __init__(self, directory: Path, port: int, bus: int) -> None:
        self.directory, self.port = directory, port
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self._options = {
            "port": port,
            "bind": "127.0.0.1",
            "dir": directory,
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "cluster-enabled": "yes",
            "cluster-port": bus,
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            "cluster-replica-validity-factor": 0,
            "cluster-require-full-coverage": "no",
            "repl-diskless-sync-delay": 0,
        }
        self.start()
        self.client: Any = redis.Redis(port=port, decode_responses=True)
        wait_until(f"a server on port {port}", self._answers)
        self.id = str(self("CLUSTER", "MYID"))

    def start(self) -> None:
        """Starts the server on what its directory has."""
        binary = Counters(Home.at(self.directory)).argv()[0]
        options = [str(part) for name, value in self._options.items() for part in (f"--{name}", value)]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                launch_argv([binary, *options], death_signal=signal.SIGKILL),
                stdout=log,
                stderr=log,
                env=plain_environment(),
            )

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def __call__(self, *command: object) -> Any:
        """One command, its reply as it comes."""
        return self.client.execute_command(*command)

    def info(self, section: str) -> dict[str, Any]:
        """A section of INFO."""
        found: dict[str, Any] = self.client.info(section)
        return found

    def kill(self) -> None:
        """Ends it by a SIGKILL."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Ends it for good."""
        self.client.close()
        self.kill()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Cluster:
    """The cluster; `nodes` are three masters, then a replica of each."""

    def __init__(self, directory: Path) -> None:
        ports = _free_ports(4 * MASTERS)
        pairs = list(zip(ports[::2], ports[1::2], strict=True))
        self.nodes: list[Node] = []
        try:
            self._make(directory, pairs)
        except BaseException:
            self.close()
            raise
        self.url = "redis-cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def _make(self, directory: Path, pairs: list[tuple[int, int]]) -> None:
        self.nodes += [Node(directory / str(port), port, bus) for port, bus in pairs]
        share = SLOTS // MASTERS + 1
        for number, node in enumerate(self.nodes):
            node("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < MASTERS:
                last = min((number + 1) * share, SLOTS) - 1
                node("CLUSTER", "ADDSLOTSRANGE", number * share, last)
        # Afterwards, since who knows others may not choose its config epoch any more.
        for node in self.nodes:
            for other, bus in pairs:
                if other != node.port:
                    node("CLUSTER", "MEET", "127.0.0.1", other, bus)
        wait_until("all know each other", lambda: all(self._knows_all(node) for node in self.nodes))
        for master, replica in zip(self.nodes, self.nodes[MASTERS:], strict=False):
            replica("CLUSTER", "REPLICATE", master.id)
        self.settle()

    def _knows_all(self, node: Node) -> bool:
        # As text, since a server that is still being introduced has another id for the while.
        known = str(node("CLUSTER", "NODES"))
        return "handshake" not in known and all(other.id in known for other in self.nodes)

    def state(self, node: Node) -> dict[str, str]:
        """CLUSTER INFO of a server."""
        said = node("CLUSTER", "INFO")
        if isinstance(said, dict):
            return said
        return dict(line.split(":", 1) for line in str(said).split())

    def settle(self) -> None:
        """Waits until every slot has a master for everybody, and every replica has caught up with its own."""
        wait_until("the cluster is well", self._well)

    def _well(self) -> bool:
        try:
            replicas = 0
            for node in self.nodes:
                if self.state(node)["cluster_state"] != "ok" or _FAILED.search(str(node("CLUSTER", "NODES"))):
                    return False
                found = node.info("replication")
                if found["role"] == "slave":
                    replicas += found["master_link_status"] == "up"
            return replicas == len(self.nodes) - MASTERS
        except redis.RedisError:
            return False

    def close(self) -> None:
        """Ends every server."""
        for node in self.nodes:
            node.close()

    def masters(self) -> list[Node]:
        """The servers that take writes, as they see it themselves."""
        return [
            node for node in self.nodes if node._answers() and node.info("replication")["role"] == "master"
        ]

    def master_of(self, slot: int) -> Node:
        """The master that has a slot."""
        for node in self.masters():
            for first, last, (_, port, *_), *_ in node("CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return next(one for one in self.nodes if one.port == port)
        raise AssertionError(f"nobody has slot {slot}")

    def shards_of(self, node: Node) -> set[int]:
        """The shards whose slots a master has."""
        return {shard for shard in range(SHARDS) if self.master_of(slot_of(epoch_key(shard))) is node}

    def begin_migration(self, slot: int, target: Node) -> Node:
        """Lets `target` take a slot over; returns the master that has it. Keys stay where they are for now."""
        source = self.master_of(slot)
        target("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        return source

    def move_keys(self, slot: int, source: Node, target: Node, *, most: int) -> int:
        """Moves up to `most` keys of a slot; returns how many there were."""
        names = source("CLUSTER", "GETKEYSINSLOT", slot, most)
        if names:
            source("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *names)
        return len(names)

    def migrate(self, slot: int, target: Node, *, half_way: Callable[[], object] = lambda: None) -> None:
        """Moves a slot key by key, as `redis-cli --cluster reshard` does, and calls back when some have moved."""
        source = self.begin_migration(slot, target)
        self.move_keys(slot, source, target, most=KEYS_AT_ONCE)
        half_way()
        while self.move_keys(slot, source, target, most=KEYS_AT_ONCE):
            pass
        for node in (target, source, *(n for n in self.masters() if n not in (source, target))):
            node("CLUSTER", "SETSLOT", slot, "NODE", target.id)

    def fail_over(self, master: Node) -> Node:
        """Kills a master and waits for its replica to be promoted; returns that one."""
        (replica,) = [
            n
            for n in self.nodes
            if n is not master and n.info("replication").get("master_port") == master.port
        ]
        master.kill()
        wait_until("the replica is promoted", lambda: replica.info("replication")["role"] == "master")
        return replica

    def revive(self, node: Node) -> None:
        """Starts a killed server again; it becomes a replica of whoever took its place."""
        node.start()
        self.settle()
