"""A process that is killed, or that forks: run by test_settling.py.

settles N calls into an outbox while noburn does not answer, says so, and waits to be killed.
"""

from __future__ import annotations

import os
import signal
import sys

from noburn_sdk.gate import Asked
from noburn_sdk.integrations.openai.endpoints import CHAT
from noburn_sdk.testing import MemoryGate, MemoryPlane

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "canary-in-a-killed-process"}]}
ANSWER = {"model": "gpt-4o-mini", "usage": {"prompt_tokens": 10, "completion_tokens": 5}}


def main() -> None:
    outbox, count = sys.argv[1], int(sys.argv[2])
    plane = MemoryPlane()
    gate = MemoryGate(plane, outbox=outbox)
    held = [gate.admit(Asked(CHAT, "gpt-4o-mini", BODY)) for _ in range(count)]
    plane.unavailable = True
    for one in held:
        one.settle(ANSWER)
    print("settled", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
