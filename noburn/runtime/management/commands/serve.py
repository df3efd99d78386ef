"""`manage.py serve`: the whole of noburn in the foreground of one terminal, until Ctrl-C."""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import shlex
import socket
import sys
from typing import Any

from django.conf import settings
from django.core.management import call_command, get_commands
from django.core.management.base import BaseCommand, CommandError, OutputWrapper

from noburn.runtime.errors import RuntimeProblem
from noburn.runtime.preparation import prepare_servers
from noburn.runtime.secrets import Secrets
from noburn.runtime.supervisor import Program, Supervisor
from noburn.runtime.usage import leave_servers, use_servers
from noburn.runtime.workers import WORKERS, worker_argv

READY_POLL_SECONDS = 0.1
SERVERS_POLL_SECONDS = 1.0
GIVE_BACK_SECONDS = 15


class Command(BaseCommand):
    help = "Serves gateway, Django, Celery workers and beat, and the servers they need, at PORT."

    def handle(self, *_args: Any, **_options: Any) -> None:
        host = os.environ.get("HOST", "127.0.0.1")
        _require_free_port(host, settings.PORT)
        self.stdout.write("noburn is starting.", ending="\n")
        self.stdout.flush()
        supervisor: Supervisor | None = None
        try:
            use_servers()
            prepare_servers(verbosity=0)
            call_command("collectstatic", interactive=False, verbosity=0)
            supervisor = Supervisor(_programs(host), environment=_environment())
            supervisor.run(
                beside=[lambda: _announce(supervisor, host), lambda: _keep_servers(supervisor)],
            )
        except KeyboardInterrupt:
            pass
        finally:
            if supervisor is not None and not os.environ.get("REDIS_URL"):
                _give_back(self.stderr)
            leave_servers(wait=True)
        self.stdout.write("noburn has ended.")


def _give_back(said: OutputWrapper) -> None:
    """Closes the epochs as planned, since the embedded counters end with us: what they hold goes back to its budgets."""
    try:
        call_command("epoch", "close", "--used", f"--seconds={GIVE_BACK_SECONDS}", stdout=io.StringIO())
    except CommandError as problem:
        said.write(f"what the counters held stays locked until its window ends: {problem}")


def _require_free_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            raise RuntimeProblem(
                f"Port {port} cannot be used ({problem.strerror}). Choose another: PORT={port + 1} make serve"
            ) from None


def _programs(host: str) -> list[Program]:
    python = sys.executable
    workers = os.environ.get("WEB_WORKERS") or str(min(2, os.cpu_count() or 1))
    granian = [python, "-m", "granian", "noburn.asgi:application", "--interface", "asgi", "--no-ws"]
    granian += ["--host", host, "--port", str(settings.PORT), "--workers", workers, "--loop", "uvloop"]
    granian += ["--respawn-failed-workers", "--respawn-interval", "0.5", "--workers-kill-timeout", "4"]
    granian += ["--static-path-route", "/static", "--static-path-mount", str(settings.STATIC_ROOT)]
    granian += ["--log-level", "warning"]
    beat = [
        python,
        "-m",
        "celery",
        "--quiet",
        "-A",
        "noburn.celery",
        "beat",
        "--loglevel",
        "WARNING",
        "--pidfile=",
    ]
    programs = [
        Program("web", granian),
        *(Program(name, worker_argv(python, name)) for name in WORKERS),
        Program("beat", beat),
    ]
    if "epoch" in get_commands():
        programs.append(
            Program("epochs", [python, str(settings.BASE_DIR / "manage.py"), "epoch", "--skip-checks", "run"])
        )
    return programs


def _environment() -> dict[str, str]:
    """Returns what the children see: URLs and secrets named, so that they start no servers of their own."""
    secrets: Secrets = settings.SECRETS
    return {
        **os.environ,
        **secrets.environment(),
        "NOBURN_HOME": str(settings.NOBURN_HOME),
        "DATABASE_URL": settings.DATABASE_URL,
        "DATABASE_OWNER_URL": settings.DATABASE_OWNER_URL,
        "DATABASE_GATEWAY_URL": settings.DATABASE_GATEWAY_URL,
        "REDIS_URL": settings.REDIS_URL,
        "REDIS_GATEWAY_URL": settings.REDIS_GATEWAY_URL,
        "REDIS_CONTROL_URL": settings.REDIS_CONTROL_URL,
        "BROKER_URL": settings.BROKER_URL,
        "BASE_URL": settings.BASE_URL,
        "PORT": str(settings.PORT),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(settings.BASE_DIR), os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": "1",
        # The system checks load every page, two seconds of work, and were run by this command already.
        "CELERY_SKIP_CHECKS": "1",
        # Celery warns root at length on every start; who runs all of noburn as root has decided that already.
        "PYTHONWARNINGS": os.environ.get("PYTHONWARNINGS", "ignore::UserWarning:celery.platforms"),
    }


def _announce(supervisor: Supervisor, host: str) -> None:
    """Says once that everything serves, and what to do next."""
    while not supervisor.stopping.wait(READY_POLL_SECONDS):
        connection = http.client.HTTPConnection(host, settings.PORT, timeout=2)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                break
    else:
        return
    # Another terminal must find these servers and name this address.
    same = "".join(
        f"{name}={shlex.quote(value)} "
        for name in ("PORT", "BASE_URL", "NOBURN_HOME")
        if (value := os.environ.get(name))
    )
    supervisor.say(
        f"ready at {settings.BASE_URL} - next, in another terminal: "
        f"{same}.venv/bin/python manage.py provision --tenant acme --budget 'customer:*:10:month' (Ctrl-C ends)"
    )


def _keep_servers(supervisor: Supervisor) -> None:
    """Starts embedded servers again whose keeper was killed; a keeper restarts its server by itself."""
    while not supervisor.stopping.wait(SERVERS_POLL_SECONDS):
        try:
            use_servers()
        except RuntimeProblem as problem:
            supervisor.say(str(problem))
