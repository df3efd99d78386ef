"""What an integration knows of a provider's endpoint, and what it found in one request to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from noburn_sdk.attribution import NOTHING, Attribution
from noburn_sdk.estimate import Api
from noburn_sdk.usage import Usage

if TYPE_CHECKING:
    from noburn_sdk.gate.meters import Meter

Bound = Mapping[str, Any]
"""What a pre-flight is told where no estimate can be made: fields of `Preflight` beside the model."""


@dataclass(frozen=True)
class Endpoint:
    """One kind of call. `operation` is its name in OpenTelemetry's terms.

    `api` is the estimator's; without one `bound` finds what the call can use, or None where nothing bounds it.
    `read` reads a whole answer, and raises InvalidRequestError for one without usage; without it the answer
    never says what the call used, so that its hold is presumed spent. `meter` makes what reads a stream, of the
    model's name and whether to count at once.
    """

    name: str
    operation: str
    api: Api | None = None
    read: Callable[[Any], Usage] | None = None
    meter: Callable[[str, bool], Meter] | None = None
    bound: Callable[[Mapping[str, Any]], Bound | None] | None = None
    why: str = ""
    """Where nothing bounds the call: what to tell the caller about it."""


@dataclass(frozen=True)
class Asked:
    """One HTTP attempt that is about to be made: `body` is what the provider would be sent.

    `said` is this call's own attribution, `framework` what a framework knows of it. `signed`: the body cannot
    be changed any more. `model_fixed`: the model stands in the address as well, so that it cannot be changed.
    `fit`: lower the cap to what fits instead of refusing. `wait_ms` and `cut` stand in the place of the gate's own
    `wait_ms` and `cut_streams` for this call. `size`: the body's bytes, where they are known.
    """

    endpoint: Endpoint
    model: str
    body: Mapping[str, Any] = field(repr=False)
    provider: str | None = None
    said: Attribution = NOTHING
    framework: Attribution = NOTHING
    changed: bool = False
    """Whether `body` is another one already than the caller's."""
    signed: bool = False
    model_fixed: bool = False
    stream: bool = False
    fit: bool = False
    wait_ms: int | None = None
    cut: bool | None = None
    size: int = 0
