"""LangGraph: a run of noburn's for each invocation of a graph, under caps of its own.

graph = noburn_sdk.langgraph.with_run(builder.compile(), usd="2", steps=40)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from noburn_sdk._requests import Amount
from noburn_sdk.runs import Running, run

__all__ = ["GraphRuns", "with_run"]


class GraphRuns:
    """A compiled graph whose every invocation is a run; everything else of it is the graph's own.

    A graph that is invoked inside a node of another one has a child run. Whoever leaves a stream half-way ends its run
    when the stream is closed.
    """

    def __init__(self, graph: Any, usd: Amount | None, options: dict[str, Any]) -> None:
        self._graph, self._usd, self._options = graph, usd, options

    def __getattr__(self, name: str) -> Any:
        return getattr(self._graph, name)

    def _run(self) -> Running:
        return run(self._usd, **self._options)

    def invoke(self, *args: Any, **options: Any) -> Any:
        """Invokes the graph in a run."""
        with self._run():
            return self._graph.invoke(*args, **options)

    async def ainvoke(self, *args: Any, **options: Any) -> Any:
        """Invokes the graph in a run, awaited."""
        async with self._run():
            return await self._graph.ainvoke(*args, **options)

    def stream(self, *args: Any, **options: Any) -> Iterator[Any]:
        """Streams the graph in a run; the consumer between two steps is inside of it too."""
        with self._run():
            yield from self._graph.stream(*args, **options)

    async def astream(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        """Streams the graph in a run, awaited."""
        async with self._run():
            async for part in self._graph.astream(*args, **options):
                yield part


def with_run(graph: Any, usd: Amount | None = None, **options: Any) -> GraphRuns:
    """Returns the graph with a run for each invocation; options are those of `noburn_sdk.run`.

    Switch the integration on as well, with `noburn_sdk.instrument("langgraph")`, so that nodes are tags.
    """
    return GraphRuns(graph, usd, options)
