"""The users of the counters' Redis: what each may send, on real servers alone and in a cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
import redis
from django.conf import settings
from django.core.management import call_command

from noburn.runtime.checks import redis_user_faults, user_faults
from noburn.runtime.embedded import ROOT
from noburn.runtime.redis_users import CONTROL, GATEWAY, MANAGEMENT, VARIABLES, excesses, rules_of
from tests.support.processes import administrators

pytestmark = pytest.mark.real_db

FORBIDDEN = [
    ("EVAL", "return 1", "0"),
    ("EVAL_RO", "return 1", "0"),
    ("FUNCTION", "LIST"),
    ("FCALL", "f", "0"),
    ("SCRIPT", "FLUSH"),
    ("SCRIPT", "KILL"),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
    ("KEYS", "*"),
    ("SHUTDOWN",),
    ("SAVE",),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "noburn_gateway", "+@all"),
    ("REPLICAOF", "NO", "ONE"),
    ("CLUSTER", "RESET"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("MONITOR",),
    ("SWAPDB", "0", "0"),
    ("RENAME", "{nb00}:epoch", "{nb00}:x"),
    ("RESTORE", "{nb00}:x", "0", "x"),
    ("PERSIST", "{nb00}:x"),
    ("PUBLISH", "a", "b"),
    ("SUBSCRIBE", "a"),
    ("GET", "elsewhere"),
    ("SET", "elsewhere", "1"),
    ("DEL", "elsewhere"),
]


def urls() -> dict[str, str]:
    return {name: str(getattr(settings, name)) for name in VARIABLES}


class TestUsers:
    @pytest.mark.parametrize("variable", sorted(VARIABLES))
    def test_may_send_nothing_that_noburn_does_not(self, servers: dict[str, str], variable: str) -> None:
        with redis.Redis.from_url(urls()[variable]) as client:
            for command in FORBIDDEN:
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command)

    def test_may_not_debug_either(self, servers: dict[str, str]) -> None:
        """Asked of the rules: the server refuses it to everybody."""
        with redis.Redis.from_url(administrators(settings.REDIS_URL), decode_responses=True) as client:
            for user in VARIABLES.values():
                said = client.execute_command("ACL", "DRYRUN", user, "DEBUG", "SLEEP", "0")
                assert "no permissions to run the 'debug" in said

    def test_load_a_script_as_the_controller_alone(self, servers: dict[str, str]) -> None:
        for variable, url in urls().items():
            with redis.Redis.from_url(url) as client:
                if variable == "REDIS_CONTROL_URL":
                    sha = client.script_load("return redis.call('GET', KEYS[1])")
                    assert client.evalsha(sha, 1, "{nb00}:nothing") is None
                    # A script has no more rights than who calls it.
                    with pytest.raises(redis.exceptions.NoPermissionError):
                        client.evalsha(sha, 1, "elsewhere")
                else:
                    with pytest.raises(redis.exceptions.NoPermissionError):
                        client.script_load("return 1")

    def test_scan_and_unlink_never_as_the_gateway(self, servers: dict[str, str]) -> None:
        with redis.Redis.from_url(settings.REDIS_GATEWAY_URL) as client:
            for command in (("SCAN", "0"), ("UNLINK", "{nb00}:x"), ("INFO",)):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*command)

    def test_have_every_command_of_the_scripts(self) -> None:
        used: set[str] = set()
        for path in (ROOT / "budgets/stores/redis/lua").glob("*.lua"):
            used |= {
                word.lower() for word in re.findall(r"redis\.p?call\(\s*['\"](\w+)['\"]", path.read_text())
            }
        assert len(used) > 15
        for user in (GATEWAY, CONTROL, MANAGEMENT):
            assert {f"+{word}" for word in used} <= set(rules_of(user)), user

    def test_have_every_command_that_is_sent_from_python(self) -> None:
        sent: set[str] = set()
        for path in (ROOT / "budgets").rglob("*.py"):
            sent |= {word.lower() for word in re.findall(r"\.call\(\s*\"([A-Z]+)\"", path.read_text())}
        assert len(sent) > 10
        assert {f"+{word}" for word in sent - {"script", "cluster"}} <= set(rules_of(CONTROL))


class TestBoot:
    def test_passes_as_it_is_embedded(self, servers: dict[str, str]) -> None:
        names = {
            "redis_url": "REDIS_URL",
            "gateway_url": "REDIS_GATEWAY_URL",
            "control_url": "REDIS_CONTROL_URL",
        }
        assert user_faults(**{name: urls()[variable] for name, variable in names.items()}) == []

    def test_warns_of_a_user_that_may_flush_and_harms_nothing_by_asking(
        self, servers: dict[str, str]
    ) -> None:
        url = administrators(settings.REDIS_URL)
        with redis.Redis.from_url(url) as client:
            client.set("probe:kept", "1")
            faults = user_faults(redis_url=url, gateway_url=url, control_url=url)
            assert client.get("probe:kept") == b"1"
            client.delete("probe:kept")
        assert [(fault.id, fault.warning) for fault in faults] == [("noburn.W001", True)]
        assert "ACL, CONFIG, EVAL, FLUSHALL, SCRIPT LOAD" in faults[0].message
        assert "manage.py redis users" in faults[0].hint

    def test_names_a_user_that_the_server_does_not_know(self, servers: dict[str, str]) -> None:
        url = settings.REDIS_GATEWAY_URL.replace(GATEWAY, "nobody")
        (fault,) = redis_user_faults("REDIS_GATEWAY_URL", url)
        assert (fault.id, fault.unreachable) == ("noburn.E007", True)
        assert "forgets its users" in fault.hint


def made(*arguments: str) -> tuple[dict[str, str], str]:
    out, err = StringIO(), StringIO()
    call_command("redis", "users", *arguments, "--json", stdout=out, stderr=err)
    return json.loads(out.getvalue()), err.getvalue()


class TestCommand:
    @pytest.fixture
    def admin_url(self, servers: dict[str, str]) -> Iterator[str]:
        url = administrators(settings.REDIS_URL)
        yield url
        # As the ACL file had them: this process's other tests come as these users.
        with redis.Redis.from_url(url) as client:
            for user in VARIABLES.values():
                client.execute_command("ACL", "SETUSER", user, *rules_of(user), "nopass")
            client.execute_command("ACL", "SAVE")

    def test_makes_users_who_get_in_by_the_urls_that_it_prints(self, admin_url: str) -> None:
        given, said = made("--admin-url", admin_url)
        assert said == ""
        assert set(given) == set(VARIABLES)
        for variable, url in given.items():
            with redis.Redis.from_url(url) as client:
                assert client.ping()
            assert excesses(url, allowed=("SCRIPT LOAD",) if variable == "REDIS_CONTROL_URL" else ()) == []
        again, _ = made("--admin-url", admin_url)
        with redis.Redis.from_url(given["REDIS_URL"]) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
        with redis.Redis.from_url(again["REDIS_URL"]) as client:
            assert client.ping()

    def test_shows_the_rules_for_an_acl_file(self, admin_url: str) -> None:
        out = StringIO()
        call_command("redis", "users", "--show", stdout=out)
        lines = out.getvalue().splitlines()
        assert [line.split()[1] for line in lines] == list(VARIABLES.values())
        with redis.Redis.from_url(admin_url) as client:
            for line in lines:
                # The server takes each word as the line has it.
                words = line.split()
                assert client.execute_command("ACL", "SETUSER", *words[1:]) in (b"OK", "OK", True)

    def test_says_why_it_could_not(self) -> None:
        from django.core.management.base import CommandError

        with pytest.raises(CommandError, match="were not made"):
            call_command("redis", "users", "--admin-url", "redis://127.0.0.1:1/0")


class TestFile:
    def test_of_the_embedded_server_names_each_user(self, servers: dict[str, str]) -> None:
        path = Path(settings.NOBURN_HOME) / "counters" / "users.acl"
        assert path.read_text().count("\nuser noburn_") == 3
