"""A stand-in for OpenAI and Anthropic that meters exactly, misbehaves on command and remembers every call.

It speaks Chat Completions, Responses, Embeddings and Messages, plain and streaming, so that the real clients
work against it unchanged. Run it with `python -m tests.doubles.provider --port 9300`, or from a test:

    with ProviderDouble() as double:
        client = openai.OpenAI(base_url=double.openai_url, api_key="any")
        double.control(output_fraction=0.25, latency_ms=40)
        ...
        assert double.summary()["requests"] == 4
"""

from tests.doubles.provider.process import ProviderDouble

__all__ = ["ProviderDouble"]
