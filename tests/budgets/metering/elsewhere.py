"""Another PostgreSQL, with transaction ids of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import psycopg

from noburn.runtime.embedded import ROOT
from noburn.runtime.names import DATABASE
from noburn.runtime.servers import Postgres

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Elsewhere:
    """Another PostgreSQL, empty but for its roles."""

    postgres: Postgres

    def restore(self, source_url: str) -> None:
        """Copies a database here, as an operator would."""
        dump = [str(self.postgres.binaries / "pg_dump"), "--no-comments", "--enable-row-security"]
        dump += ["-d", source_url]
        load = [str(self.postgres.binaries / "psql"), "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-d"]
        text = subprocess.run(dump, check=True, capture_output=True, timeout=60).stdout
        subprocess.run(
            [*load, self.postgres.url("postgres", DATABASE)],
            input=text,
            check=True,
            capture_output=True,
            timeout=60,
        )

    def connect(self, role: str) -> Connection:
        """A connection to the copy, each statement its own transaction."""
        return psycopg.connect(self.postgres.url(role), autocommit=True)

    def manage(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Starts a command of ours on it."""
        environment = {
            **os.environ,
            **self.postgres.environment(),
            "NOBURN_HOME": str(self.postgres.home.path),
            "DJANGO_SETTINGS_MODULE": "noburn.settings",
        }
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
