"""noburn refuses an LLM call before it fires when nobody has budget left to pay for it.

noburn_sdk.instrument()  # every client of OpenAI and Anthropic, without a change where they are called
with noburn_sdk.context(customer="acme"):
    client.chat.completions.create(model="gpt-4o-mini", messages=messages)

By hand:

nb = noburn_sdk.Noburn()
with nb.call(model="gpt-4o-mini", input_tokens=1200, customer="acme") as call:
    answer = client.chat.completions.create(
        model=call.model, max_completion_tokens=call.max_output_tokens, messages=messages
    )
    call.settle(answer)
"""

from noburn_sdk import estimate, usage
from noburn_sdk._default import configure, flush
from noburn_sdk._requests import CallOptions, Settlement
from noburn_sdk._version import __version__
from noburn_sdk.async_client import AsyncCall, AsyncNoburn
from noburn_sdk.attribution import context, ungated
from noburn_sdk.client import Call, Noburn
from noburn_sdk.errors import (
    AuthenticationError,
    BudgetExceededError,
    ConflictError,
    InvalidRequestError,
    NoburnError,
    PriceUnknownError,
    StreamCutError,
    UnavailableError,
    UnboundedError,
)
from noburn_sdk.gate import Gate
from noburn_sdk.integrations.registry import instrument, uninstrument, wrap
from noburn_sdk.results import (
    Allowed,
    Alternative,
    BudgetState,
    Denied,
    Extended,
    Remaining,
    Settled,
)
from noburn_sdk.runs import NewRun, Running, RunState, RunSummary, current_run, run
from noburn_sdk.usage import Usage

track = context
"""The same as a decorator: `@noburn_sdk.track(customer="acme")`."""

__all__ = [
    "Allowed",
    "Alternative",
    "AsyncCall",
    "AsyncNoburn",
    "AuthenticationError",
    "BudgetExceededError",
    "BudgetState",
    "Call",
    "CallOptions",
    "ConflictError",
    "Denied",
    "Extended",
    "Gate",
    "InvalidRequestError",
    "NewRun",
    "Noburn",
    "NoburnError",
    "PriceUnknownError",
    "Remaining",
    "RunState",
    "RunSummary",
    "Running",
    "Settled",
    "Settlement",
    "StreamCutError",
    "UnavailableError",
    "UnboundedError",
    "Usage",
    "__version__",
    "configure",
    "context",
    "current_run",
    "estimate",
    "flush",
    "instrument",
    "run",
    "track",
    "ungated",
    "uninstrument",
    "usage",
    "wrap",
]
