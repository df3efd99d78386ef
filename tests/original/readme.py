"""The original client, installed under its own name: runs what its package shows, and prints what came of it.

Its README's examples are taken from the installed package's metadata. One place of them is added to: the client is told
where this noburn is, and to wait longer than two seconds, since it lets calls through where a busy machine is late.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import re
import warnings
from typing import Any

METADATA: Any = importlib.metadata.metadata("noburn")
README = METADATA.get_payload()
EXAMPLES: list[str] = re.findall(r"^```python\n(.*?)^```", str(README), re.MULTILINE | re.DOTALL)
ADDED = '\n    base_url=os.environ["NOBURN_BASE_URL"],\n    timeout=60.0,'
HERE = 'project_id=os.environ["NOBURN_PROJECT_ID"],'


def example(word: str) -> str:
    """The one example with this word in it."""
    (found,) = [each for each in EXAMPLES if word in each]
    return found


def shown(value: Any) -> Any:
    """A result of the client's as JSON has it."""
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]


def main() -> None:
    """Runs the examples in the README's order, in one namespace."""
    names: dict[str, Any] = {"__name__": "readme", "invoice": {"id": "in_1"}}
    told: dict[str, Any] = {}

    def run(name: str, word: str, *results: str) -> None:
        code = example(word)
        if HERE in code:
            code = code.replace(HERE, f"{HERE}{ADDED}")
        exec(compile(code, f"README: {name}", "exec"), names)
        names["guard"].flush(timeout=60)
        told[name] = {result: shown(names.get(result)) for result in results}

    run("quick start", "budget_cap_usd=10.0", "decision")
    run("quotas", "guard.remaining(", "decision", "q")
    run("runs", "guard.start_run(budget_cap_usd=0.5)", "run", "decision", "summary")
    names["run_id"] = names["guard"].start_run(budget_cap_usd=0.5).run_id
    run("stop", "guard.stop_run(", "stopped")
    again = names["guard"].check(
        model="gpt-4o", estimated_tokens_in=1, estimated_tokens_out=1, run_id=names["run_id"]
    )
    told["stop"]["later"] = shown(again)
    run("revenue", "guard.record_revenue(")
    run("LangChain", "NoburnCallbackHandler(guard")
    told["LangChain"]["answer"] = names["llm"].invoke("Write a haiku about budgets, please.").text
    names["guard"].flush(timeout=60)
    last = names["guard"].check(model="gpt-4o-mini", estimated_tokens_in=1, estimated_tokens_out=1)
    told["spent"] = last.spend_usd
    told["pricing"] = len(names["guard"].fetch_pricing()["global_table"])
    told["dropped"] = names["guard"].dropped_event_count
    print(json.dumps(told))


if __name__ == "__main__":
    warnings.simplefilter("error")
    main()
