"""noburn refuses an LLM call before it fires when nobody has budget left to pay for it.

nb = noburn_sdk.Noburn()
with nb.call(model="gpt-4o-mini", input_tokens=1200, customer="acme") as call:
    answer = client.chat.completions.create(
        model=call.model, max_completion_tokens=call.max_output_tokens, messages=messages
    )
    call.settle(answer)
"""

from noburn_sdk import estimate, usage
from noburn_sdk._requests import CallOptions, Settlement
from noburn_sdk._version import __version__
from noburn_sdk.async_client import AsyncCall, AsyncNoburn
from noburn_sdk.client import Call, Noburn
from noburn_sdk.errors import (
    AuthenticationError,
    BudgetExceededError,
    ConflictError,
    InvalidRequestError,
    NoburnError,
    PriceUnknownError,
    UnavailableError,
)
from noburn_sdk.results import (
    Allowed,
    Alternative,
    BudgetState,
    Denied,
    Extended,
    Remaining,
    Settled,
)
from noburn_sdk.usage import Usage

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
    "InvalidRequestError",
    "Noburn",
    "NoburnError",
    "PriceUnknownError",
    "Remaining",
    "Settled",
    "Settlement",
    "UnavailableError",
    "Usage",
    "__version__",
    "estimate",
    "usage",
]
