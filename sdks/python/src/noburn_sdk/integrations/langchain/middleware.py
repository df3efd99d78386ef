"""The middleware of LangChain's agents, to stand first: `create_agent(…, middleware=[NoburnMiddleware(), …])`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from noburn_sdk import attribution
from noburn_sdk.gate.watch import watching

if TYPE_CHECKING:

    class AgentMiddleware:
        """LangChain's, where it is not installed."""
else:
    from langchain.agents.middleware import AgentMiddleware


class NoburnMiddleware(AgentMiddleware):
    """Lets a refusal out of an agent as it is, whatever the middleware inside makes of errors.

    `said` is whom the agent's calls are for, as in `context`. A call that is allowed after a refusal, as that
    of a fallback's cheaper model, ends it.
    """

    def __init__(self, **said: Any) -> None:
        super().__init__()
        self._said = said

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Calls the model. Raises the refusal, if that was the end of it."""
        with attribution.context(**self._said), watching() as watch:
            try:
                answer = handler(request)
            except Exception:
                if watch.refusal is not None:
                    raise watch.refusal from None
                raise
        if watch.refusal is not None:
            raise watch.refusal
        return answer

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Does the same, awaited."""
        with attribution.context(**self._said), watching() as watch:
            try:
                answer = await handler(request)
            except Exception:
                if watch.refusal is not None:
                    raise watch.refusal from None
                raise
        if watch.refusal is not None:
            raise watch.refusal
        return answer
