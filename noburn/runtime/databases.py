"""Django's DATABASES from libpq URLs: `default` is the application's role, `owner` runs the migrations."""

from __future__ import annotations

from typing import Any

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from noburn.runtime.errors import RuntimeProblem

MIGRATION_LOCK_TIMEOUT_MS = 5000


def database_settings(*, app_url: str, owner_url: str) -> dict[str, dict[str, Any]]:
    """Returns DATABASES. Raises RuntimeProblem when a URL is not one that libpq understands."""
    return {
        "default": {
            **_one("DATABASE_URL", app_url),
            "ENGINE": "noburn.runtime.postgres",
            # One is declared by a statement that could not carry its scope (noburn.runtime.postgres).
            "DISABLE_SERVER_SIDE_CURSORS": True,
        },
        # A migration that waits for a lock makes everybody queue behind it; better to fail and be repeated.
        "owner": _one(
            "DATABASE_OWNER_URL", owner_url, options=f"-c lock_timeout={MIGRATION_LOCK_TIMEOUT_MS}"
        ),
    }


def _one(name: str, url: str, *, options: str = "") -> dict[str, Any]:
    try:
        parts = {key: str(value) for key, value in conninfo_to_dict(url).items() if value is not None}
    except ProgrammingError as problem:
        raise RuntimeProblem(
            f"{name} is not a PostgreSQL URL (postgresql://user:password@host:5432/name): "
            f"{str(problem).strip()}"
        ) from None
    if options:
        parts["options"] = f"{parts['options']} {options}" if parts.get("options") else options
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.pop("dbname", "noburn"),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": parts.pop("port", ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": parts,
    }
