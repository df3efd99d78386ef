"""Several gateways in processes of their own, all against this test process's servers."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64encode
from types import TracebackType
from typing import Any

from noburn.runtime.embedded import ROOT
from tests.support.world import gateway_config

END_SECONDS = 20.0


class Racers:
    """Gateways that play the same command at the same time. Use as a context."""

    def __init__(self, count: int) -> None:
        config = gateway_config()
        first = {
            "database_url": config.database_url,
            "redis_url": config.redis_url,
            "pepper": b64encode(config.pepper).decode(),
            "signing_keys": {kid: b64encode(key).decode() for kid, key in config.signing_keys.items()},
            "signing_kid": config.signing_kid,
            "base_url": config.base_url,
        }
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.support.racer"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
            for _ in range(count)
        ]
        for process in self._processes:
            self._tell(process, first)
        for process in self._processes:
            assert self._hear(process) == "ready"

    def __enter__(self) -> Racers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            assert process.stdout is not None
            process.stdout.close()

    @staticmethod
    def _tell(process: subprocess.Popen[str], command: object) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()

    @staticmethod
    def _hear(process: subprocess.Popen[str]) -> Any:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"a gateway ended with {process.wait()}"
        return json.loads(line)

    def begin(self, command: dict[str, Any]) -> None:
        """Gives every gateway the command, each with a seed of its own if it has one."""
        for number, process in enumerate(self._processes):
            own = {"seed": command["seed"] * 1000 + number} if "seed" in command else {}
            self._tell(process, {**command, **own})

    def end(self) -> list[Any]:
        """Every gateway's answer."""
        return [self._hear(process) for process in self._processes]
