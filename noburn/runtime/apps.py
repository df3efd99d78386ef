"""The Django app of the runtime: it has commands and checks, and no models."""

from __future__ import annotations

from django.apps import AppConfig


class RuntimeConfig(AppConfig):
    name = "noburn.runtime"
    label = "runtime"
    verbose_name = "Runtime"

    def ready(self) -> None:
        from noburn.runtime import checks  # noqa: F401
