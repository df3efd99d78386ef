"""The handler that tells the gate whom a model's call is for, from when it starts until it ends."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any
from uuid import UUID

from noburn_sdk import attribution
from noburn_sdk.attribution import Attribution
from noburn_sdk.integrations.langchain.said import said_by

if TYPE_CHECKING:

    class BaseCallbackHandler:
        """LangChain's, where it is not installed."""

        run_inline = False
else:
    from langchain_core.callbacks import BaseCallbackHandler

_RUNS_MAX = 10_000


class AttributionHandler(BaseCallbackHandler):
    """Runs inline, so that what it sets is set for the call itself, in asyncio too."""

    run_inline = True

    def __init__(self) -> None:
        self._before: OrderedDict[UUID, tuple[Attribution, Attribution]] = OrderedDict()

    def _starts(self, run_id: UUID, metadata: dict[str, Any] | None, tags: list[str] | None) -> None:
        before, said = attribution.told_by_framework(), said_by(metadata, tags)
        self._before[run_id] = (before, said)
        # Runs that never end must not fill the memory.
        while len(self._before) > _RUNS_MAX:
            self._before.popitem(last=False)
        attribution.tell_framework(said)

    def _ends(self, run_id: UUID) -> None:
        before, said = self._before.pop(run_id, (None, None))
        if before is not None and attribution.told_by_framework() is said:
            attribution.tell_framework(before)

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],  # noqa: ARG002
        messages: list[Any],  # noqa: ARG002
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """A chat model is called."""
        self._starts(run_id, metadata, tags)

    def on_llm_start(
        self,
        serialized: dict[str, Any],  # noqa: ARG002
        prompts: list[str],  # noqa: ARG002
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """A model that completes texts is called."""
        self._starts(run_id, metadata, tags)

    def on_llm_end(self, response: Any, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002
        """It answered."""
        self._ends(run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **_: Any) -> None:  # noqa: ARG002
        """It failed, or its stream was closed."""
        self._ends(run_id)
