"""Boot checks: what noburn needs of PostgreSQL and Redis, found out by asking them.

A fault of kind `unreachable` may pass by itself; the others need a person, and the message says what to do. With a
`warning` noburn starts all the same, and says so each time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import redis
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from psycopg.rows import DictRow, dict_row

from noburn.kit.redis_cluster import SLOTS, ask_slots, is_cluster, masters_of
from noburn.runtime.errors import RuntimeProblem
from noburn.runtime.isolation import SPANS, UNISOLATED
from noburn.runtime.names import ACROSS
from noburn.runtime.redis_users import excesses

REDIS_VERSION_MIN = (7, 0)
POSTGRES_VERSION_MIN = 15
CONNECT_SECONDS = 5
TABLES_SHOWN = 5


@dataclass(frozen=True)
class Fault:
    """Something that keeps noburn from running safely."""

    id: str
    message: str
    hint: str
    unreachable: bool = False
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.message} {self.hint}"


def redis_faults(redis_url: str) -> list[Fault]:
    """Returns what is wrong with the Redis of the counters; in a cluster, with each of its masters."""
    if not is_cluster(redis_url):
        return _server_faults(redis_url, cluster=False)
    try:
        ranges = ask_slots(redis_url, seconds=CONNECT_SECONDS)
    except redis.ResponseError as problem:
        return [
            Fault(
                "noburn.E004",
                f"REDIS_URL names a cluster, and the server is none: {problem}.",
                "Write redis:// for one server.",
            )
        ]
    except (redis.RedisError, OSError, ValueError) as problem:
        return [_silent(redis_url, problem)]
    faults = []
    if sum(found.last - found.first + 1 for found in ranges) < SLOTS:
        faults.append(
            Fault(
                "noburn.E005",
                "Some slots of the Redis Cluster have no master.",
                "`redis-cli --cluster check` says which; the budgets of their shards answer 503 meanwhile.",
                unreachable=True,
            )
        )
    for master in sorted({found.servers[0] for found in ranges}):
        faults += _server_faults(master, cluster=True)
    return faults


def _silent(url: str, problem: Exception) -> Fault:
    return Fault(
        "noburn.E001",
        f"Redis does not answer at {_without_password(url)}: {problem}.",
        "Start it, or correct REDIS_URL; unset it to use the embedded one.",
        unreachable=True,
    )


def _server_faults(url: str, *, cluster: bool) -> list[Fault]:
    try:
        with redis.Redis.from_url(url, socket_connect_timeout=CONNECT_SECONDS) as client:
            server: dict[str, Any] = client.info("server")
            memory: dict[str, Any] = client.info("memory")
            clustered: dict[str, Any] = client.info("cluster")
    except (redis.RedisError, OSError, ValueError) as problem:
        return [_silent(url, problem)]
    faults = version_and_policy_faults(
        version=str(server.get("redis_version", "0")),
        policy=str(memory.get("maxmemory_policy", "unknown")),
        where=f" at {_without_password(url)}" if cluster else "",
    )
    if clustered.get("cluster_enabled") and not cluster:
        faults.append(
            Fault(
                "noburn.E006",
                "REDIS_URL names one server of a Redis Cluster, which has the keys of some shards alone.",
                "Write redis-cluster://host:port,host:port with a few of its servers.",
            )
        )
    return faults


def redis_user_faults(variable: str, url: str) -> list[Fault]:
    """Returns what is wrong with the user by which `variable` comes to the counters. W-faults are no reason to stop."""
    allowed = ("SCRIPT LOAD",) if variable == "REDIS_CONTROL_URL" else ()
    try:
        found = {
            name
            for server in masters_of(url, seconds=CONNECT_SECONDS)
            for name in excesses(server, allowed=allowed)
        }
    except redis.AuthenticationError as problem:
        return [
            Fault(
                "noburn.E007",
                f"Redis does not let us in by {variable}: {problem}.",
                "A server without an ACL file forgets its users at a restart: "
                "run `python manage.py redis users --help`.",
                unreachable=True,
            )
        ]
    except (redis.RedisError, OSError, ValueError) as problem:
        # Of REDIS_URL itself the other checks say it.
        return [] if variable == "REDIS_URL" else [_silent(url, problem)]
    if not found:
        return []
    return [
        Fault(
            "noburn.W001",
            f"{variable} connects as a Redis user that may {', '.join(sorted(found))}, which noburn never sends: "
            "whoever takes over the program may as well.",
            "Make users with `python manage.py redis users --admin-url …`, and set the URLs that it prints.",
            warning=True,
        )
    ]


def user_faults(*, redis_url: str, gateway_url: str, control_url: str) -> list[Fault]:
    """Returns what is wrong with the three users of the counters, found in one pass."""
    urls = {"REDIS_URL": redis_url, "REDIS_GATEWAY_URL": gateway_url, "REDIS_CONTROL_URL": control_url}
    if len(set(urls.values())) == 1:
        # One user for all: said once.
        urls = {"REDIS_URL": redis_url}
    return [fault for variable, url in urls.items() for fault in redis_user_faults(variable, url)]


def version_and_policy_faults(*, version: str, policy: str, where: str = "") -> list[Fault]:
    """Returns what is wrong with a Redis of this version (as it reports it) and eviction policy."""
    faults = []
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < REDIS_VERSION_MIN:
        faults.append(
            Fault(
                "noburn.E002",
                f"Redis{where} is version {version}; noburn needs 7.0 or later.",
                "Upgrade it: an older one keeps scripts over a restart, and the epoch fence needs them gone.",
            )
        )
    if policy != "noeviction":
        faults.append(
            Fault(
                "noburn.E003",
                f"Redis{where} has maxmemory-policy {policy}; it may throw away holds, which are money.",
                "Run `redis-cli config set maxmemory-policy noeviction`, and put it in its configuration.",
            )
        )
    return faults


def role_faults(variable: str, url: str) -> list[Fault]:
    """Returns what is wrong with the PostgreSQL and the role of `url`, which came from `variable`."""
    try:
        with psycopg.connect(url, connect_timeout=CONNECT_SECONDS, row_factory=dict_row) as connection:
            connection.read_only = True
            found = connection.execute(_ROLE_QUERY).fetchone()
            spans = connection.execute(SPANS).fetchone()
            tables = connection.execute(UNISOLATED).fetchall() if variable == "DATABASE_URL" else []
    except psycopg.Error as problem:
        return [
            Fault(
                "noburn.E011",
                f"PostgreSQL does not let us in by {variable}: {str(problem).strip()}.",
                "Start it, or correct the URL; `python manage.py database roles --help` makes the roles.",
                unreachable=True,
            )
        ]
    assert found is not None
    assert spans is not None
    faults = _faults_of_role(variable, found)
    if variable == "DATABASE_OWNER_URL" or found["super"] or found["owns_schema"]:
        return faults
    return faults + _faults_of_isolation(variable, found["role"], spans, tables)


_ROLE_QUERY = """
SELECT current_setting('server_version_num')::int / 10000 AS major,
       current_setting('server_version') AS version,
       r.rolname AS role, r.rolsuper AS super, r.rolbypassrls AS bypass,
       pg_has_role(r.oid, d.datdba, 'MEMBER') AS owns_database,
       pg_has_role(r.oid, n.nspowner, 'MEMBER') AS owns_schema,
       EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid
                    AND pg_has_role(r.oid, c.relowner, 'MEMBER'))
           AS owns_table
  FROM pg_roles r, pg_database d, pg_namespace n
 WHERE r.rolname = current_user AND d.datname = current_database() AND n.nspname = 'public'
"""


def _faults_of_role(variable: str, found: DictRow) -> list[Fault]:
    faults = []
    role = found["role"]
    if found["major"] < POSTGRES_VERSION_MIN:
        faults.append(
            Fault(
                "noburn.E012",
                f"PostgreSQL is version {found['version']}; noburn needs {POSTGRES_VERSION_MIN} or later.",
                "Upgrade it.",
            )
        )
    if found["super"]:
        faults.append(
            Fault(
                "noburn.E013",
                f"{variable} connects as {role}, a superuser: it passes every grant and row-level policy.",
                "Make the roles with `python manage.py database roles` and use noburn_app or noburn_gateway.",
            )
        )
        # A superuser is a member of everything; saying so again would hide what matters.
        return faults
    if found["bypass"]:
        faults.append(
            Fault(
                "noburn.E014",
                f"{variable} connects as {role}, which has BYPASSRLS.",
                f"Run `ALTER ROLE {role} NOBYPASSRLS` as an administrator.",
            )
        )
    if found["owns_database"] or found["owns_schema"] or found["owns_table"]:
        faults.append(
            Fault(
                "noburn.E015",
                f"{variable} connects as {role}, which owns the schema or may act as its owner.",
                "Migrations run as the owner (DATABASE_OWNER_URL); give the application a role of its own.",
            )
        )
    return faults


def _faults_of_isolation(variable: str, role: str, spans: DictRow, tables: Sequence[DictRow]) -> list[Fault]:
    faults = []
    is_app = variable == "DATABASE_URL"
    if is_app and (spans["missing"] or not spans["member"]):
        faults.append(
            Fault(
                "noburn.E016",
                f"{variable} connects as {role}, which cannot become {ACROSS}: work that spans tenants needs it.",
                "Run `python manage.py database roles` as an administrator, then `python manage.py migrate`.",
            )
        )
    if spans["inherits"] or (spans["member"] and not is_app):
        faults.append(
            Fault(
                "noburn.E017",
                f"{variable} connects as {role}, which has the rights of {ACROSS} without saying so: "
                "no row-level policy holds it.",
                f"Run `REVOKE {ACROSS} FROM {role}` as an administrator, then `python manage.py database roles`.",
            )
        )
    if tables:
        names = ", ".join(f"{row['name']} {row['lacks']}" for row in tables[:TABLES_SHOWN])
        more = f", and {len(tables) - TABLES_SHOWN} more" if len(tables) > TABLES_SHOWN else ""
        faults.append(
            Fault(
                "noburn.E018",
                f"Tenants are not kept apart by the database: {names}{more}.",
                "Run `python manage.py migrate`, which makes what is missing; drop by hand what was altered.",
            )
        )
    return faults


def server_faults(*, app_url: str, gateway_url: str, redis_url: str) -> list[Fault]:
    """Returns everything that is wrong with the servers, found in one pass."""
    checks: list[Callable[[], Sequence[Fault]]] = [
        lambda: role_faults("DATABASE_URL", app_url),
        lambda: role_faults("DATABASE_GATEWAY_URL", gateway_url),
        lambda: redis_faults(redis_url),
    ]
    return [fault for check in checks for fault in check()]


def require_sound_servers(*, app_url: str, gateway_url: str, redis_url: str) -> None:
    """Raises RuntimeProblem, with every fault named, when a server is not fit.

    A server that cannot be reached is no reason: it may come back, and until then calls are answered 503.
    """
    faults = server_faults(app_url=app_url, gateway_url=gateway_url, redis_url=redis_url)
    standing = [str(fault) for fault in faults if not fault.unreachable]
    if standing:
        raise RuntimeProblem("\n".join(standing))


@register(Tags.database)
def check_servers(*, databases: Sequence[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """The same as a Django check: `python manage.py check --database default`."""
    from django.conf import settings

    if not databases or "default" not in databases:
        return []
    faults = server_faults(
        app_url=settings.DATABASE_URL,
        gateway_url=settings.DATABASE_GATEWAY_URL,
        redis_url=settings.REDIS_URL,
    )
    faults += user_faults(
        redis_url=settings.REDIS_URL,
        gateway_url=settings.REDIS_GATEWAY_URL,
        control_url=settings.REDIS_CONTROL_URL,
    )
    return [
        (Warning if fault.warning else Error)(fault.message, hint=fault.hint, id=fault.id) for fault in faults
    ]


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.split('://')[0]}://…@{tail}" if at else url
