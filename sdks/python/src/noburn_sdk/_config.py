"""Settings of a client, from arguments and environment."""

from __future__ import annotations

import logging
import os
import platform
from dataclasses import dataclass

from noburn_sdk._exchange import Patience
from noburn_sdk._requests import WAIT_MS_MAX
from noburn_sdk._version import __version__
from noburn_sdk.errors import AuthenticationError, InvalidRequestError

DEFAULT_BASE_URL = "http://127.0.0.1:8420"
"""Where `make serve` listens."""

DEFAULT_TIMEOUT = 5.0
CONNECTIONS_MAX = 1_000
CONNECTIONS_KEPT = 100
PRICE_LISTS_MAX = 64

logger = logging.getLogger("noburn_sdk")


@dataclass(frozen=True)
class Config:
    """A client's settings, checked. Raises AuthenticationError without a key."""

    base_url: str
    headers: dict[str, str]
    timeout: float
    patience: Patience


def read_config(
    *,
    api_key: str | None,
    base_url: str | None,
    timeout: float,
    wait_ms: int,
    busy_timeout: float,
    max_retries: int,
    retry_timeout: float,
) -> Config:
    """Returns the settings. Raises AuthenticationError without a key, InvalidRequestError for bad values."""
    key = (api_key or os.environ.get("NOBURN_API_KEY") or "").strip()
    if not key:
        raise AuthenticationError("No API key: set NOBURN_API_KEY or pass api_key=")
    url = (base_url or os.environ.get("NOBURN_BASE_URL") or DEFAULT_BASE_URL).strip().rstrip("/")
    errors: dict[str, str] = {}
    if not key.isascii() or not key.isprintable():
        errors["api_key"] = "must be printable ASCII"
    if not url.startswith(("http://", "https://")):
        errors["base_url"] = "must begin with http:// or https://"
    if not 0 <= wait_ms <= WAIT_MS_MAX:
        errors["wait_ms"] = f"must be from 0 to {WAIT_MS_MAX}"
    if timeout <= 0:
        errors["timeout"] = "must be above 0 seconds"
    for name, value in (
        ("busy_timeout", busy_timeout),
        ("max_retries", max_retries),
        ("retry_timeout", retry_timeout),
    ):
        if value < 0:
            errors[name] = "must be at least 0"
    if errors:
        raise InvalidRequestError("The client's settings are invalid", errors=errors)
    set_up_logging()
    return Config(
        base_url=url,
        headers={
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            "Accept": "application/json, application/problem+json",
            "User-Agent": f"noburn-sdk-python/{__version__} python/{platform.python_version()}",
        },
        timeout=timeout,
        patience=Patience(max_retries, retry_timeout, wait_ms, busy_timeout),
    )


def set_up_logging() -> None:
    """Sets the logger's level from NOBURN_LOG and gives it a handler, once, where the variable is set."""
    name = os.environ.get("NOBURN_LOG", "").strip().upper()
    if not name:
        return
    level = logging.getLevelName(name)
    if not isinstance(level, int):
        logger.warning("NOBURN_LOG=%s is no level; use debug, info, warning or error", name)
        return
    logger.setLevel(level)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
