"""A process that makes calls through leases until its budget is used up: run by test_leases.py.

Each thread admits a call, notes it as made and settles it by what the provider is made to say. A byte in the file of
calls is a call, also of a process that is killed. What its process knows at its end is one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from decimal import Decimal
from typing import Any

from noburn_sdk import BudgetExceededError, Gate, UnavailableError
from noburn_sdk.attribution import Attribution
from noburn_sdk.gate import Asked
from noburn_sdk.integrations.openai.endpoints import CHAT

REFUSALS_MAX = 3


def main() -> None:
    said = json.loads(sys.argv[1])
    body: dict[str, Any] = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": "Write about budgets."}],
        "max_completion_tokens": said["tokens"],
    }
    answer = {
        "model": "gpt-4o-mini",
        "usage": {"prompt_tokens": 10, "completion_tokens": said["tokens"]},
    }
    gate = Gate(
        said["secret"],
        said["url"],
        outbox=said["outbox"],
        defaults=Attribution(customer=said["customer"]),
        timeout=30.0,
        retry_timeout=60.0,
        busy_timeout=20.0,
        flush_timeout=60.0,
    )
    calls = os.open(said["calls"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    counts = {"drawn": 0, "asked": 0, "refused": 0}
    cuts: list[float] = []
    lock = threading.Lock()

    def work() -> None:
        refused = 0
        while refused < REFUSALS_MAX:
            try:
                held = gate.admit(Asked(CHAT, "gpt-4o-mini", body))
            except BudgetExceededError:
                refused += 1
                with lock:
                    counts["refused"] += 1
                continue
            except UnavailableError:
                # Not a busy loop: with its breaker open the gate answers at once.
                time.sleep(0.2)
                continue
            os.write(calls, b".")
            drawn = held.allowed is not None and held.allowed.authorization == "leased"
            with lock:
                counts["drawn" if drawn else "asked"] += 1
            time.sleep(said.get("call_seconds", 0.0))
            held.settle(answer)

    def watch() -> None:
        """Notes when the last of the leases was given back."""
        while not said.get("watch"):
            return
        while gate.leases is None or not gate.leases._open:
            time.sleep(0.005)
        os.close(os.open(said["calls"] + ".open", os.O_WRONLY | os.O_CREAT, 0o600))
        while any(lease.recalled is None for lease in list(gate.leases._open.values())):
            time.sleep(0.005)
        cuts.append(time.time())

    threads = [threading.Thread(target=work) for _ in range(said["threads"])]
    threads.append(threading.Thread(target=watch))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settled = gate.close(60.0)
    unheard = gate.leases.closed_unheard if gate.leases is not None else 0
    left = len(gate.leases._open) if gate.leases is not None else 0
    print(
        json.dumps(
            {**counts, "closed": settled, "unheard": unheard, "open": left, "cuts": cuts}, default=_text
        ),
        flush=True,
    )


def _text(value: Any) -> str:
    return str(value) if isinstance(value, Decimal) else repr(value)


if __name__ == "__main__":
    main()
