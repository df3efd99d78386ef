"""Tells Celery's workers that there is something to do. Only a hint: what is to be done stands in PostgreSQL.

A producer of its own, since an app may not know the project's Celery application, and with short time-outs, since
nobody should wait for a broker that is away.
"""

from __future__ import annotations

import logging
from functools import lru_cache

from celery import Celery

log = logging.getLogger(__name__)

BROKER_SECONDS = 2


@lru_cache(maxsize=1)
def _producer() -> Celery:
    producer = Celery("noburn-hints", set_as_current=False)
    producer.config_from_object("django.conf:settings", namespace="CELERY")
    options = dict(producer.conf.broker_transport_options)
    producer.conf.broker_transport_options = {
        **options,
        "socket_connect_timeout": BROKER_SECONDS,
        "socket_timeout": BROKER_SECONDS,
    }
    return producer


def hint(task: str, *, queue: str, expires_seconds: int) -> bool:
    """Asks for a run of a task without arguments within `expires_seconds`; returns whether the broker took it.

    Never raises: a sweep that beat asks for finds the same work a little later.
    """
    try:
        _producer().send_task(task, queue=queue, expires=expires_seconds, retry=False, ignore_result=True)
    except (
        Exception
    ) as error:  # Whatever the broker's client raises; its text may hold the broker's password.
        log.warning("the broker took no hint for %s (%s); the next sweep does it", task, type(error).__name__)
        return False
    return True
