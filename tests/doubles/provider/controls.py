"""What the double is told to do: defaults, a script for the next calls, and headers of a single call.

A later one wins: defaults, then the script's next entry, then `x-double-*` headers, where the header of
`output_fraction` is `x-double-output-fraction`.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import Meta

Fraction = Annotated[float, Meta(ge=0, le=1)]
Milliseconds = Annotated[float, Meta(ge=0, le=600_000)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Status = Annotated[int, Meta(ge=400, le=599)]

HEADER_PREFIX = b"x-double-"
SCRIPT_MAX = 10_000


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How one call is answered. A capped call never gets more output than its cap, whatever is set here."""

    latency_ms: Milliseconds = 0
    """Wait before the first byte."""
    jitter_ms: Milliseconds = 0
    """Further wait, uniform from 0 to this, drawn from `seed` in order of arrival."""
    chunk_delay_ms: Milliseconds = 0
    """Wait before each piece of a stream."""
    output_tokens: Count = 24
    """Output of a call, reasoning included, unless `output_fraction` is set."""
    output_fraction: Fraction | None = None
    """Output as a share of the call's cap, or of `uncapped_output_tokens` where it has none."""
    uncapped_output_tokens: Count = 4_096
    """What `output_fraction` is a share of when the caller set no cap."""
    reasoning_fraction: Fraction = 0
    """Share of the output that is reasoning, billed but not sent."""
    cached_fraction: Fraction = 0
    """Share of the input read from the prompt cache."""
    cache_write_fraction: Fraction = 0
    """Share of the input written to the prompt cache, of whatever life; never beyond what was not read."""
    cache_write_1h_fraction: Fraction = 0
    """Share of those writes kept for an hour (Anthropic alone)."""
    web_searches: Count = 0
    """Searches run by the provider itself (Messages and Responses)."""
    service_tier: str | None = None
    """The tier reported back; without it the provider's usual one."""
    chunk_tokens: Count = 0
    """Tokens in one piece of a stream; 0 makes about ten pieces."""
    fail_status: Status | None = None
    """Answer this status instead of an output."""
    fail_rate: Fraction = 1
    """Share of the calls that `fail_status` hits, drawn from `seed`."""
    retry_after: str | None = None
    """The Retry-After header of a failure."""
    cut_after_chunks: Count | None = None
    """Drop the connection after so many pieces of the stream; a plain answer is dropped half-way."""
    error_after_chunks: Count | None = None
    """Send an error event inside the stream after so many pieces and end it."""
    label: str | None = None
    """Copied to the ledger, so that a test can tell its phases apart."""


_TYPES: dict[str, Any] = {
    name: hint for name, hint in get_type_hints(Plan, include_extras=True).items() if not name.startswith("_")
}


class BadControl(ValueError):
    """Names every field of a control message that is unknown or out of range."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


def read_fields(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values converted to the plan's types; texts such as header values are converted too.

    Raises BadControl with every error at once.
    """
    errors: list[str] = []
    read: dict[str, Any] = {}
    for name, value in values.items():
        if name not in _TYPES:
            errors.append(f"{name}: unknown; known are {', '.join(_TYPES)}")
            continue
        try:
            read[name] = msgspec.convert(value, _TYPES[name], strict=False)
        except msgspec.ValidationError as error:
            errors.append(f"{name}: {error}")
    if errors:
        raise BadControl(errors)
    return read


class Controls:
    """The double's present settings and its one source of chance."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Goes back to the defaults, without a script, with seed 0."""
        self.defaults = Plan()
        self.script: deque[dict[str, Any]] = deque()
        self.chance = random.Random(0)  # Faults must be repeatable, not secret.

    def change(self, message: dict[str, Any]) -> None:
        """Applies a control message: `seed`, `script` (a list of plans), and any field of a plan.

        Raises BadControl, having changed nothing.
        """
        message = dict(message)
        seed = message.pop("seed", None)
        script = message.pop("script", None)
        errors: list[str] = []
        if seed is not None and not isinstance(seed, int):
            errors.append("seed: expected an integer")
        entries: list[dict[str, Any]] = []
        if script is not None and (not isinstance(script, list) or len(script) > SCRIPT_MAX):
            errors.append(f"script: expected a list of at most {SCRIPT_MAX} objects")
        else:
            for index, entry in enumerate(script or []):
                try:
                    entries.append(read_fields(entry if isinstance(entry, dict) else {"entry": entry}))
                except BadControl as error:
                    errors += [f"script[{index}].{text}" for text in error.errors]
        fields: dict[str, Any] = {}
        try:
            fields = read_fields(message)
        except BadControl as error:
            errors += error.errors
        if errors:
            raise BadControl(errors)
        self.defaults = msgspec.structs.replace(self.defaults, **fields)
        if script is not None:
            self.script = deque(entries)
        if seed is not None:
            self.chance = random.Random(seed)  # As above.

    def plan(self, headers: list[tuple[bytes, bytes]]) -> Plan:
        """Returns the plan of the next call. Raises BadControl for a bad header."""
        fields: dict[str, Any] = self.script.popleft() if self.script else {}
        own = {
            name[len(HEADER_PREFIX) :].decode("latin-1").replace("-", "_"): value.decode("latin-1")
            for name, value in headers
            if name.startswith(HEADER_PREFIX) and name != b"x-double-customer"
        }
        if own:
            fields = fields | read_fields(own)
        return msgspec.structs.replace(self.defaults, **fields) if fields else self.defaults

    def delay_seconds(self, plan: Plan) -> float:
        """Returns how long a call waits before its first byte."""
        jitter = self.chance.uniform(0, plan.jitter_ms) if plan.jitter_ms else 0.0
        return (plan.latency_ms + jitter) / 1000

    def fails(self, plan: Plan) -> bool:
        """Says whether this call gets `fail_status`."""
        if plan.fail_status is None:
            return False
        return plan.fail_rate >= 1 or self.chance.random() < plan.fail_rate
