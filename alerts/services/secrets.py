"""The secrets of destinations: made here, sealed here, and opened only to sign or to send."""

from __future__ import annotations

import base64
import os
from functools import lru_cache
from urllib.parse import urlsplit

from django.conf import settings

from noburn.kit.sealing import Sealer

SECRET_BYTES = 32
PREFIX = "whsec_"


def new_signing_secret() -> str:
    """Makes a webhook's secret. Source: Standard Webhooks, "Secret serialization"."""
    return PREFIX + base64.b64encode(os.urandom(SECRET_BYTES)).decode()


@lru_cache(maxsize=4)
def _sealer(keys: tuple[str, ...]) -> Sealer:
    return Sealer(keys)


def sealer() -> Sealer:
    """The installation's sealer."""
    return _sealer(tuple(settings.NOBURN_ENCRYPTION_KEYS))


def shown_url(url: str) -> str:
    """What may be shown of a URL that is a secret as a whole: its host, and four characters to tell two apart."""
    parts = urlsplit(url)
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{parts.hostname}{port}/…{url[-4:]}"
