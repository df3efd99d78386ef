"""The example policies of docs/enforcement-levels.md let out the proxy, and nobody else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

EGRESS = Path(__file__).resolve().parents[2] / "docs" / "egress"
NAMESPACE = "kubernetes.io/metadata.name"
DNS = ("kube-system", "k8s-app=kube-dns", "UDP", 53), ("kube-system", "k8s-app=kube-dns", "TCP", 53)
NOBURN = ("noburn", "app=noburn", "TCP", 8420)
PROXY = ("llm-proxy", "app=noburn-proxy", "TCP", 8430)


def policies() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EGRESS / "networkpolicy.yml").read_text()))


def allowed(policy: dict[str, Any]) -> set[tuple[str, str, str, int]]:
    """Where a policy lets its pods go: namespace or block, label, protocol, port. Fails for a rule without either."""
    found = set()
    for rule in policy["spec"].get("egress", []):
        assert rule.keys() == {"to", "ports"}, "a rule without one of them allows everything"
        assert rule["to"]
        assert rule["ports"]
        for peer in rule["to"]:
            if "ipBlock" in peer:
                place, label = peer["ipBlock"]["cidr"], ""
            else:
                place = peer["namespaceSelector"]["matchLabels"][NAMESPACE]
                ((key, value),) = peer["podSelector"]["matchLabels"].items()
                label = f"{key}={value}"
            found |= {(place, label, port["protocol"], port["port"]) for port in rule["ports"]}
    return found


class TestNetworkPolicy:
    def test_lets_applications_reach_the_proxy_names_and_noburn_alone(self) -> None:
        (policy,) = (p for p in policies() if p["metadata"]["namespace"] == "apps")
        assert policy["spec"]["podSelector"] == {}
        assert policy["spec"]["policyTypes"] == ["Egress"]
        assert allowed(policy) == {*DNS, NOBURN, PROXY}

    def test_lets_only_the_proxy_s_pods_leave_to_443(self) -> None:
        leaving = [p for p in policies() if any(port == 443 for *_, port in allowed(p))]
        assert [p["spec"]["podSelector"] for p in leaving] == [{"matchLabels": {"app": "noburn-proxy"}}]
        assert [p["metadata"]["namespace"] for p in leaving] == ["llm-proxy"]
        assert allowed(leaving[0]) == {*DNS, NOBURN, ("0.0.0.0/0", "", "TCP", 443)}

    def test_shuts_the_proxy_s_namespace_to_everything_else(self) -> None:
        (shut,) = (p for p in policies() if p["metadata"]["name"] == "nothing-else")
        assert shut["metadata"]["namespace"] == "llm-proxy"
        assert shut["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


@pytest.fixture
def machine() -> Iterator[str]:
    """A namespace with the rules of docs/egress/egress.nft; behind its one wire, a provider and noburn."""
    assert os.geteuid() == 0, "network namespaces need root"
    assert shutil.which("ip"), "iproute2 is missing"
    assert shutil.which("nft"), "nftables is missing"
    inside, outside = f"nbin{os.getpid()}", f"nbout{os.getpid()}"
    run("ip", "netns", "add", inside)
    try:
        run("ip", "netns", "add", outside)
        run("ip", "-n", inside, "link", "add", "w0", "type", "veth", "peer", "name", "w1", "netns", outside)
        for space, wire, addresses in (
            (inside, "w0", ("10.0.0.1/24", "203.0.113.1/24")),
            (outside, "w1", ("10.0.0.5/24", "203.0.113.10/24")),
        ):
            for address in addresses:
                run("ip", "-n", space, "addr", "add", address, "dev", wire)
            for link in ("lo", wire):
                run("ip", "-n", space, "link", "set", link, "up")
        listen = (
            "import socket, sys\n"
            "held = [socket.create_server(('0.0.0.0', port), backlog=64) for port in (443, 8420, 8080)]\n"
            "print('ready', flush=True); sys.stdin.read()"
        )
        server = subprocess.Popen(
            ["ip", "netns", "exec", outside, sys.executable, "-c", listen],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with server:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield inside
            assert server.stdin is not None
            server.stdin.close()
    finally:
        for space in (inside, outside):
            subprocess.run(["ip", "netns", "del", space], capture_output=True)


def connects(machine: str, uid: int, address: str, port: int) -> bool:
    """Whether a user of the machine gets a connection."""
    code = (
        f"import encodings.idna, os, socket\nos.setuid({uid})\n"
        f"try: socket.create_connection(({address!r}, {port}), 10); print('yes')\n"
        "except OSError: print('no')"
    )
    return run("ip", "netns", "exec", machine, sys.executable, "-c", code) == "yes\n"


@pytest.mark.soak
class TestNftables:
    def test_let_out_the_proxy_s_user_alone(self, machine: str) -> None:
        proxy, application = 8430, 9000
        provider, noburn = "203.0.113.10", "10.0.0.5"
        assert connects(machine, application, provider, 443), "without rules anybody leaves"
        # Twice: to load them again changes nothing.
        for _ in range(2):
            run("ip", "netns", "exec", machine, "nft", "-f", str(EGRESS / "egress.nft"))
        assert connects(machine, proxy, provider, 443)
        assert connects(machine, application, noburn, 8420)
        assert connects(machine, proxy, noburn, 8420)
        assert not connects(machine, application, provider, 443)
        assert not connects(machine, application, noburn, 443)
        assert not connects(machine, application, provider, 8080)
        assert not connects(machine, proxy, provider, 8080)
        assert not connects(machine, 0, provider, 443)
