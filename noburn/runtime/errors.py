"""What goes wrong under a running noburn, said so that a person can act on it."""

from __future__ import annotations


class RuntimeProblem(Exception):
    """A server, a role or a setting keeps noburn from running; the message says what to do about it."""
