"""LangChain's models of both providers, as their guides show them, with another base URL. Prints what came of each."""

from __future__ import annotations

import json
import os
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

URL, KEY = os.environ["PROXY_URL"], os.environ["NOBURN_KEY"]
PROMPT = "Write a haiku about budgets, please."


def kinds(customer: str) -> dict[str, Any]:
    """Every kind of call, for a customer."""
    headers = {"x-noburn-key": KEY, "x-noburn-customer": customer}
    gpt: dict[str, Any] = {
        "model": "gpt-4o-mini",
        "base_url": f"{URL}/openai/v1",
        "api_key": "sk-of-the-caller",
        "default_headers": headers,
    }
    claude: Any = ChatAnthropic(
        model="claude-haiku-4-5",
        base_url=f"{URL}/anthropic",
        api_key="sk-of-the-caller",
        default_headers=headers,
        max_tokens=200,
    )
    embeddings: Any = OpenAIEmbeddings(
        **{**gpt, "model": "text-embedding-3-small"}, check_embedding_ctx_length=False
    )
    return {
        "chat": lambda: ChatOpenAI(**gpt).invoke(PROMPT).text,
        "chat stream": lambda: "".join(chunk.text for chunk in ChatOpenAI(**gpt).stream(PROMPT)),
        "responses": lambda: ChatOpenAI(**gpt, use_responses_api=True).invoke(PROMPT).text,
        "messages": lambda: claude.invoke(PROMPT).text,
        "messages stream": lambda: "".join(chunk.text for chunk in claude.stream(PROMPT)),
        "embeddings": lambda: len(embeddings.embed_query(PROMPT)),
    }


def main() -> None:
    """Makes every call twice: for who can pay, and for who cannot."""
    found: dict[str, dict[str, Any]] = {"answered": {}, "refused": {}}
    for kind, call in kinds(os.environ["RICH"]).items():
        found["answered"][kind] = call()
    for kind, call in kinds(os.environ["POOR"]).items():
        try:
            found["refused"][kind] = {"answered": call()}
        except Exception as error:
            found["refused"][kind] = getattr(error, "status_code", repr(error))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
