"""The Celery application: JSON only, late acknowledgement, a queue a purpose, beat from the apps.

An app's `tasks.py` holds its tasks and may hold `BEAT`, entries of the beat schedule by name. Tasks carry ids
and survive running twice; the broker carries hints only, so a lost one costs time and no money.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import beat_init, celeryd_init, worker_ready

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noburn.settings")

from noburn.kit.tenancy import span_in_this_process
from noburn.runtime.workers import BoundedTask, bound_statements, watchdog

app = Celery("noburn", task_cls=BoundedTask)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.on_after_finalize.connect
def collect_beat_schedule(sender: Celery, **_kwargs: Any) -> None:
    """Adds each app's `tasks.BEAT` to the schedule.

    A message whose task was due again meanwhile is worth nothing, so it expires by then unless the app says otherwise.
    """
    from importlib import import_module
    from importlib.util import find_spec

    from django.apps import apps

    for config in apps.get_app_configs():
        if find_spec(f"{config.name}.tasks") is None:
            continue
        for name, entry in getattr(import_module(f"{config.name}.tasks"), "BEAT", {}).items():
            options = dict(entry.get("options", {}))
            if isinstance(entry["schedule"], int | float):
                options.setdefault("expires", entry["schedule"])
            sender.conf.beat_schedule[name] = {**entry, "options": options}


@celeryd_init.connect
@beat_init.connect
def start_servers(**_kwargs: Any) -> None:
    """Starts the embedded servers for a worker or beat that runs on its own, outside `manage.py serve`."""
    from noburn.runtime.usage import use_servers

    use_servers()


@celeryd_init.connect
def bound_worker(**_kwargs: Any) -> None:
    """Bounds each statement of this worker, before a connection is opened; what its tasks' threads do spans tenants."""
    bound_statements()
    span_in_this_process()


@worker_ready.connect
def watch(**_kwargs: Any) -> None:
    """Begins to end this worker when one of its tasks does not."""
    watchdog.start()
