"""What a developer pastes to make the first call, for each framework, with key and address filled in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MODEL: Final = "gpt-4o-mini"


@dataclass(frozen=True, slots=True)
class Snippet:
    """Code for one framework: a shell's lines before it, and the code."""

    name: str
    title: str
    shell: str
    code: str


_ENVIRONMENT = "export NOBURN_API_KEY={key}\nexport NOBURN_BASE_URL={url}"
# From a clone, until the package is published: the same source.
_INSTALL = "pip install './sdks/python[{extras}]'\n" + _ENVIRONMENT

_TEMPLATES: Final = (
    (
        "openai",
        "OpenAI",
        _INSTALL.replace("{extras}", "tokens") + "\npip install openai",
        """import noburn_sdk, openai

noburn_sdk.instrument()
with noburn_sdk.context(customer="acme"):
    answer = openai.OpenAI().chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "A haiku about budgets."}]
    )
print(answer.choices[0].message.content)
""",
    ),
    (
        "anthropic",
        "Anthropic",
        _INSTALL.replace("{extras}", "tokens") + "\npip install anthropic",
        """import anthropic, noburn_sdk

client = noburn_sdk.wrap(anthropic.Anthropic(), customer="acme")
answer = client.messages.create(
    model="claude-haiku-4-5", max_tokens=200, messages=[{"role": "user", "content": "A haiku about budgets."}]
)
print(answer.content[0].text)
""",
    ),
    (
        "litellm",
        "LiteLLM",
        _INSTALL.replace("{extras}", "litellm"),
        """import litellm, noburn_sdk

noburn_sdk.instrument("litellm")
with noburn_sdk.context(customer="acme"):
    litellm.completion(model="openai/gpt-4o-mini", messages=[{"role": "user", "content": "A haiku, please."}])
""",
    ),
    (
        "langchain",
        "LangChain",
        _INSTALL.replace("{extras}", "langchain"),
        """import noburn_sdk
from langchain.agents import create_agent
from noburn_sdk.langchain import NoburnMiddleware

noburn_sdk.instrument("langchain")
agent = create_agent("openai:gpt-4o-mini", middleware=[NoburnMiddleware()])
agent.invoke({"messages": ["A haiku, please."]}, {"metadata": {"noburn_customer": "acme"}})
""",
    ),
    (
        "langgraph",
        "LangGraph",
        _INSTALL.replace("{extras}", "langgraph"),
        """import noburn_sdk, openai
from langgraph.graph import START, MessagesState, StateGraph

noburn_sdk.instrument("langgraph")
ask = openai.OpenAI().responses.create
graph = StateGraph(MessagesState)
graph.add_node("ask", lambda _: {"messages": ask(model="gpt-4o-mini", input="A haiku.").output_text})
graph.add_edge(START, "ask")
thread = {"configurable": {"thread_id": "t1"}, "metadata": {"noburn_customer": "acme"}}
graph.compile().invoke({"messages": []}, thread)
""",
    ),
    (
        "vercel",
        "Vercel AI SDK, by the proxy",
        "NOBURN_BASE_URL={url} NOBURN_PROXY_CALLERS=anyone NOBURN_API_KEY={key} make proxy\n"
        "npm install ai @ai-sdk/openai",
        """import { createOpenAI } from "@ai-sdk/openai";
import { generateText } from "ai";

const openai = createOpenAI({
  baseURL: "http://127.0.0.1:8430/openai/v1",
  headers: { "x-noburn-customer": "acme" },
});
const { text } = await generateText({ model: openai("gpt-4o-mini"), prompt: "A haiku about budgets." });
console.log(text);
""",
    ),
    (
        "curl",
        "curl, and no provider",
        "",
        """curl -s {url}/v1/preflight \\
  -H "Authorization: Bearer {key}" \\
  -H "Idempotency-Key: first-$(date +%s)" \\
  -H "Content-Type: application/json" \\
  -d '{"model": "gpt-4o-mini", "input_tokens": 1200, "max_output_tokens": 500, "subject": {"customer": "acme"}}'
""",
    ),
)


def snippets(*, key: str, url: str) -> list[Snippet]:
    """Returns a snippet for each framework; `key` is a secret, or what stands for one that was shown before."""

    def filled(text: str) -> str:
        return text.replace("{key}", key).replace("{url}", url)

    return [Snippet(name, title, filled(shell), filled(code)) for name, title, shell, code in _TEMPLATES]
