"""For LangChain's agents: `from noburn_sdk.langchain import NoburnMiddleware`."""

from noburn_sdk.integrations.langchain.middleware import NoburnMiddleware

__all__ = ["NoburnMiddleware"]
