"""The enforcing proxy: a program of its own, which passes calls of LLMs through a gate of the SDK's."""
