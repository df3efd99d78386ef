"""Celery's part of billing. Tasks are hints: what is due stands in PostgreSQL, and a sweep finds it."""

from __future__ import annotations

from typing import Any

BEAT: dict[str, dict[str, Any]] = {}
