"""The project's Celery application with two tasks that tests wait for, and a broker that gives up on the dead soon."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import redis
from django.conf import settings

from noburn.celery import app as app

app.conf.broker_transport_options = {"visibility_timeout": 1}

LINGER_SECONDS = 60


def broker_client() -> redis.Redis:
    """A connection to the broker's own server; Celery spells the address of a socket in its own way."""
    return redis.Redis(unix_socket_path=urlsplit(settings.BROKER_URL).path)


def _linger(token: str) -> None:
    """Says that it started, and waits until it is told to end."""
    with broker_client() as broker:
        broker.rpush(f"probe:{token}:started", os.getpid())
        broker.blpop([f"probe:{token}:end"], LINGER_SECONDS)
        broker.rpush(f"probe:{token}:ended", os.getpid())


@app.task(name="probe.linger")
def linger(token: str) -> None:
    """Ends when it is told to."""
    _linger(token)


@app.task(name="probe.overrun", time_limit=1)
def overrun(token: str) -> None:
    """Never ends in its time."""
    _linger(token)
