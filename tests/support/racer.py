"""A gateway in a process of its own, driven by commands on standard input; its answers go to standard output.

A command is one line of JSON, and so is its answer. `race` fires calls at one instant; `live` plays a seeded
mix of placing, settling, voiding, losing and abandoning, and tells when what was committed. Imports no Django.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from base64 import b64decode
from datetime import datetime
from typing import Any

from budgets.gateway.app import GatewayApp
from budgets.gateway.config import GatewayConfig
from tests.support.asgi import Answer, send

BATCH = 10
TTL_SECONDS = 3


def now_ms() -> float:
    """Milliseconds since 1970, as Redis on this machine tells them."""
    return time.time() * 1000


async def _until(at_ms: float) -> None:
    await asyncio.sleep(max(0.0, (at_ms - now_ms()) / 1000 - 0.002))
    while now_ms() < at_ms:
        pass


def _call(amount_nano: int, wait_ms: int = 0, ttl_seconds: int = TTL_SECONDS) -> dict[str, Any]:
    return {
        "model": "own-tool",
        "max_output_tokens": 1,
        "cost_usd": f"{amount_nano // 10**9}.{amount_nano % 10**9:09d}",
        "subject": {"customer": "acme"},
        "ttl_seconds": ttl_seconds,
        "wait_ms": wait_ms,
    }


class Racer:
    """Plays commands against one gateway."""

    def __init__(self, app: GatewayApp) -> None:
        self._app = app

    async def _post(self, path: str, body: object, secret: str) -> Answer:
        return await send(self._app, "POST", path, body=body, secret=secret)

    async def race(self, command: dict[str, Any]) -> dict[str, Any]:
        """Pre-flights of one amount at one instant; their decisions and authorizations."""
        secret = command["secret"]
        # The key is known before the race, as it is in a gateway that has been running.
        await send(self._app, "GET", "/v1/remaining?customer=nobody", secret=secret)
        await _until(command["at_ms"])
        answers = await asyncio.gather(
            *(self._post("/v1/preflight", _call(command["amount"]), secret) for _ in range(command["calls"]))
        )
        return {
            "decisions": [answer.decision for answer in answers],
            "authorizations": [a["authorization"] for a in answers if a.decision == "allow"],
        }

    async def live(self, command: dict[str, Any]) -> dict[str, Any]:
        """Lives of calls until a time; every change of what is committed as [ms, hold, amount], what was
        acknowledged of each hold, and tallies."""
        chance = random.Random(command["seed"])
        until, secret = command["until_ms"], command["secret"]
        events: list[list[Any]] = []
        acknowledged: dict[str, int] = {}
        tallies: dict[str, int] = {}

        def tally(word: str) -> None:
            tallies[word] = tallies.get(word, 0) + 1

        async def resolve(path: str, body: object) -> Answer:
            while True:
                answer = await self._post(path, body, secret)
                if answer.status != 503:
                    return answer
                tally("resolution repeated")
                await asyncio.sleep(0.05)

        async def one(chance: random.Random) -> None:
            amount = chance.randint(1, 120)
            fate = chance.choices(["settle", "void", "lose", "abandon"], [70, 15, 5, 10])[0]
            wait, ttl_seconds = chance.choice([0, 0, 100]), 1 if fate == "abandon" else TTL_SECONDS
            placed = await self._post("/v1/preflight", _call(amount, wait, ttl_seconds), secret)
            tally(placed.decision)
            if placed.decision != "allow":
                return
            hold = placed["hold"]["id"]
            expires_ms = datetime.fromisoformat(placed["hold"]["expires_at"]).timestamp() * 1000
            # Up to a millisecond later than it was: Redis tells whole ones.
            events.append([expires_ms - ttl_seconds * 1000 + 1, hold, amount])
            await asyncio.sleep(chance.random() * 0.05)
            if fate == "abandon":
                return
            body: dict[str, Any] = {"authorization": placed["authorization"]}
            used, began = 0, now_ms()
            if fate == "lose":
                body["usage"], used = None, amount
            elif fate == "settle":
                used = chance.randint(0, amount // 5)
                body |= {"usage": {}, "cost_usd": f"0.{used:09d}"}
            # Noted before it is sent: it may be freed from then on.
            events.append([began, hold, used - amount])
            answer = await resolve("/v1/void" if fate == "void" else "/v1/settle", body)
            tally(answer["state"] if answer.status == 200 else answer.kind)
            acknowledged[hold] = used
            if chance.random() < 0.1:
                again = await resolve("/v1/void" if fate == "void" else "/v1/settle", body)
                tally("replayed" if again["replayed"] else "replay that was none")

        while now_ms() < until:
            await asyncio.gather(*(one(random.Random(chance.random())) for _ in range(BATCH)))
        return {"events": events, "acknowledged": acknowledged, "tallies": tallies}


async def main() -> None:
    """Serves commands until standard input ends."""
    config = json.loads(sys.stdin.readline())
    app = GatewayApp(
        GatewayConfig(
            config["database_url"],
            config["redis_url"],
            b64decode(config["pepper"]),
            {kid: b64decode(key) for kid, key in config["signing_keys"].items()},
            config["signing_kid"],
            config["base_url"],
        )
    )
    await app.startup()
    racer = Racer(app)
    print(json.dumps("ready"), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        answer = await getattr(racer, command["do"])(command)
        print(json.dumps(answer), flush=True)
    await app.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
