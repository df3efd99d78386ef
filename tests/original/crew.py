"""The README's CrewAI example from the original client's own package, with a crew of one; prints what came of it.

The crew itself is not in the README. What the example names, and an import before it, is there when it runs.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import json
import os
import re
from typing import Any

from crewai import LLM, Agent, Crew, Task  # type: ignore[import-not-found]

# By name, since in this repository another package has it.
client: Any = importlib.import_module("noburn")
README = str(importlib.metadata.metadata("noburn").get_payload())  # type: ignore[attr-defined]
EXAMPLES: list[str] = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PATIENT = 60.0


def crew() -> Any:
    """One agent with one task, at the provider that the environment names."""
    writer = Agent(
        role="Writer", goal="Write one line", backstory="Writes short.", llm=LLM(model="openai/gpt-4o-mini")
    )
    task = Task(description="Write one line about {topic}.", expected_output="One line.", agent=writer)
    return Crew(agents=[writer], tasks=[task])


def main() -> None:
    """Runs the example, and then a crew whose run may spend nothing."""
    guard = client.NoburnGuard(
        api_key=os.environ["NOBURN_API_KEY"],
        project_id=os.environ["NOBURN_PROJECT_ID"],
        base_url=os.environ["NOBURN_BASE_URL"],
        timeout=PATIENT,
        on_error="block",
    )
    names: dict[str, Any] = {"guard": guard, "crew": crew()}
    (example,) = [each for each in EXAMPLES if "NoburnCrewGuard(guard" in each]
    exec(compile(example, "README: CrewAI", "exec"), names)
    guard.flush(timeout=PATIENT)
    told = {"said": str(names["result"]), "summary": dataclasses.asdict(names["crew_guard"].summary)}
    poor = names["NoburnCrewGuard"](guard, budget_cap_usd=0.000001)
    try:
        poor.kickoff(crew(), inputs={"topic": "budgets"})
    except client.NoburnBlockedError as error:
        told["refused"] = error.block_reason
    guard.flush(timeout=PATIENT)
    told["dropped"] = guard.dropped_event_count
    print(json.dumps(told))


if __name__ == "__main__":
    main()
