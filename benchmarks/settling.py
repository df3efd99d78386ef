"""Makes authorizations to settle: places holds over HTTP and writes their authorizations to a file, one a line."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from uuid import uuid4

import httpx

AT_ONCE = 64


async def place(url: str, key: str, count: int) -> list[str]:
    """Places `count` holds of one customer; returns their authorizations."""
    numbers, tokens = iter(range(count)), []

    async def work(client: httpx.AsyncClient) -> None:
        for _ in numbers:
            answer = await client.post(
                "/v1/preflight",
                headers={"Idempotency-Key": uuid4().hex},
                json={
                    "provider": "openai",
                    "model": "gpt-4o-mini",
                    "input_tokens": 1200,
                    "max_output_tokens": 500,
                    "subject": {"customer": "c1"},
                    "ttl_seconds": 900,
                },
            )
            tokens.append(answer.json()["authorization"])

    async with httpx.AsyncClient(
        base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30
    ) as client:
        await asyncio.gather(*(work(client) for _ in range(AT_ONCE)))
    return tokens


if __name__ == "__main__":
    Path(sys.argv[4]).write_text(
        "\n".join(asyncio.run(place(sys.argv[1], sys.argv[2], int(sys.argv[3])))) + "\n"
    )
