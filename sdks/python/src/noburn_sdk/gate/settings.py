"""A gate's settings, checked whole."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal, get_args

from noburn_sdk._requests import TTL_SECONDS_MAX, WAIT_MS_MAX
from noburn_sdk.errors import InvalidRequestError

Mode = Literal["enforce", "observe"]
OnUnavailable = Literal["deny", "allow"]


@dataclass(frozen=True)
class Settings:
    """How calls are gated. Seconds unless named otherwise. Raises InvalidRequestError naming every bad value.

    `mode`: observe refuses nothing and changes no call, but holds, settles and tells what it would have refused.
    `timeout`: one attempt to ask noburn; `retry_timeout`: all of them, beside waiting on holds in flight, which
    `wait_ms` and `busy_timeout` bound. `on_unavailable`: deny, or allow, which is soft: then up to
    `allow_usd_max` a day and process goes through unasked and unrecorded. `max_output_tokens`: the cap of calls
    that name none; without it the tenant's default. `ttl_seconds`: how long a hold lives until it is presumed
    spent. `cut_streams`: end a stream where it would cost more than its hold. `outbox`: a folder, None for the
    usual one, False for none. `leases`: decide about calls that come often from amounts that this process was given
    beforehand, instead of asking about each; not in mode observe. `flush_timeout`: how long the end of the process may
    wait for settlements.
    """

    mode: Mode = "enforce"
    on_unavailable: OnUnavailable = "deny"
    allow_usd_max: Decimal | str | int | None = None
    timeout: float = 0.3
    max_retries: int = 1
    retry_timeout: float = 0.8
    wait_ms: int = 2_000
    busy_timeout: float = 10.0
    max_output_tokens: int | None = None
    ttl_seconds: int = 600
    cut_streams: bool = False
    outbox: str | Path | Literal[False] | None = None
    leases: bool = True
    flush_timeout: float = 2.0

    def __post_init__(self) -> None:
        errors: dict[str, str] = {}
        if self.mode not in get_args(Mode):
            errors["mode"] = "must be enforce or observe"
        if self.on_unavailable not in get_args(OnUnavailable):
            errors["on_unavailable"] = "must be deny or allow"
        elif self.on_unavailable == "allow" and self.allow_usd_max is None:
            errors["allow_usd_max"] = "is needed with on_unavailable='allow': USD a day and process"
        try:
            usable = isinstance(self.allow_usd_max, Decimal | str | int)
            usable = usable and Decimal(self.allow_usd_max or 0) >= 0
        except InvalidOperation:
            usable = False
        if self.allow_usd_max is not None and not usable:
            errors["allow_usd_max"] = "must be an amount in USD; a float is not exact"
        for name, least, most in (
            ("max_retries", 0, 10),
            ("wait_ms", 0, WAIT_MS_MAX),
            ("ttl_seconds", 1, TTL_SECONDS_MAX),
        ):
            if not least <= getattr(self, name) <= most:
                errors[name] = f"must be from {least} to {most}"
        if self.timeout <= 0:
            errors["timeout"] = "must be above 0 seconds"
        for name in ("retry_timeout", "busy_timeout", "flush_timeout"):
            if getattr(self, name) < 0:
                errors[name] = "must be at least 0 seconds"
        if self.max_output_tokens is not None and self.max_output_tokens < 1:
            errors["max_output_tokens"] = "must be at least 1"
        if errors:
            raise InvalidRequestError("The gate's settings are invalid", errors=errors)
