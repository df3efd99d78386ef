"""Embedded servers are shared while they run, and neither outlive their users nor die of a kill -9."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psycopg
import pytest
import redis

from noburn.runtime.embedded import EmbeddedServers, missing_servers, server_pid
from noburn.runtime.errors import RuntimeProblem
from noburn.runtime.home import Home
from noburn.runtime.servers import Counters, Postgres
from tests.runtime.conftest import OtherCommand, wait_for_death, wait_until_stopped
from tests.support.processes import administrators


def pid_of(home: Home, name: str) -> int:
    pid = server_pid(home, name)
    assert pid is not None
    return pid


class TestTwoCommands:
    def test_share_one_server(self, home: Home) -> None:
        first = OtherCommand(home, "counters")
        pid = pid_of(home, "counters")
        second = OtherCommand(home, "counters")
        assert pid_of(home, "counters") == pid
        first.end()
        second.end()

    def test_leave_the_server_to_the_one_that_stays(self, home: Home) -> None:
        first, second = OtherCommand(home, "counters"), OtherCommand(home, "counters")
        pid = pid_of(home, "counters")
        first.end()
        assert Counters(home).answers()
        assert pid_of(home, "counters") == pid
        second.end()
        wait_for_death(pid)

    def test_find_what_the_first_wrote_after_it_ended(self, home: Home) -> None:
        for expected in (None, b"kept"):
            servers = EmbeddedServers(home, ("counters",))
            servers.ensure()
            with redis.Redis.from_url(administrators(servers.environment()["REDIS_URL"])) as client:
                assert client.get("mark") == expected
                client.set("mark", "kept")
            servers.leave(wait=True)


class TestKillOfTheHolder:
    def test_stops_the_server_when_nobody_else_uses_it(self, home: Home) -> None:
        other = OtherCommand(home, "counters")
        pid = pid_of(home, "counters")
        other.kill()
        wait_for_death(pid)
        wait_until_stopped(home, "counters")

    def test_leaves_a_home_that_the_next_command_can_use(self, home: Home) -> None:
        OtherCommand(home, "postgres", "counters").kill()
        servers = EmbeddedServers(home, ("postgres", "counters"), durable=False)
        servers.ensure()
        with psycopg.connect(servers.environment()["DATABASE_URL"]) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        servers.leave(wait=True)
        wait_until_stopped(home, "postgres")


class TestKillOfTheServer:
    @pytest.mark.parametrize("name", ["postgres", "counters"])
    def test_brings_it_back_at_the_same_address(self, home: Home, name: str) -> None:
        servers = EmbeddedServers(home, (name,), durable=False)
        servers.ensure()
        killed = pid_of(home, name)
        os.kill(killed, signal.SIGKILL)
        wait_for_death(killed)
        servers.ensure()
        assert pid_of(home, name) != killed
        servers.leave(wait=True)

    def test_and_of_its_keeper_too_is_repaired_by_the_next_ensure(self, home: Home) -> None:
        servers = EmbeddedServers(home, ("counters",), durable=False)
        servers.ensure()
        pid = pid_of(home, "counters")
        os.kill(parent_of(pid), signal.SIGKILL)
        wait_for_death(pid)
        servers.ensure()
        assert pid_of(home, "counters") != pid
        servers.leave(wait=True)

    def test_ignores_the_stale_process_id_of_a_crashed_machine(self, home: Home) -> None:
        servers = EmbeddedServers(home, ("postgres",), durable=False)
        servers.ensure()
        servers.leave(wait=True)
        wait_until_stopped(home, "postgres")
        # Another process has the number now: this one.
        stale = f"{os.getpid()}\n{Postgres(home).data}\n1700000000\n5432\n\n\n\n"
        (Postgres(home).data / "postmaster.pid").write_text(stale)
        servers.ensure()
        servers.leave(wait=True)


class TestStart:
    def test_works_below_a_path_longer_than_a_socket_may_have(self, long_home: Home) -> None:
        servers = EmbeddedServers(long_home, ("postgres", "counters"), durable=False)
        servers.ensure()
        with psycopg.connect(servers.environment()["DATABASE_URL"]) as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("noburn_app",)
        with redis.Redis.from_url(servers.environment()["REDIS_URL"]) as client:
            assert client.ping()
        servers.leave(wait=True)

    def test_says_what_the_server_said_when_it_does_not_start(self, home: Home) -> None:
        servers = EmbeddedServers(home, ("counters",))
        servers.ensure()
        servers.leave(wait=True)
        wait_until_stopped(home, "counters")
        manifest = home.path / "counters" / "appendonlydir" / "appendonly.aof.manifest"
        manifest.write_text("this is no manifest\n")
        with pytest.raises(RuntimeProblem, match=r"(?s)counters server did not start.*MANIFEST"):
            servers.ensure()
        servers.leave()

    def test_refuses_a_home_that_is_a_file(self, home: Home) -> None:
        path = home.path / "file"
        path.write_text("")
        with pytest.raises(RuntimeProblem, match="Set NOBURN_HOME"):
            EmbeddedServers(Home.at(path), ("counters",)).ensure()

    def test_lets_nobody_else_through_to_the_data(self, home: Home) -> None:
        servers = EmbeddedServers(home, ("postgres", "counters"), durable=False)
        servers.ensure()
        for path in (Postgres(home).data, Postgres(home).socket_directory, Counters(home).socket):
            assert path.stat().st_mode & 0o077 == 0
        servers.leave(wait=True)


class TestMissingServers:
    def test_are_those_without_a_url(self) -> None:
        given = {"DATABASE_URL": "postgresql://db/noburn", "REDIS_URL": ""}
        assert missing_servers(given) == ("counters", "broker")


def parent_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("PPid:"))
