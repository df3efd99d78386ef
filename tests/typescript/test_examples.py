"""The Express example as a started process: the SDK is built for it, as it would be installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from hmac import digest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.node import SDK, built, node, sdk
from tests.typescript.conftest import live_environment

if TYPE_CHECKING:
    from tests.doubles.provider import ProviderDouble
    from tests.typescript.control import Control

pytestmark = pytest.mark.real_db

SECRET = "a secret of this test"
SECONDS = 300


def cookie(customer: str, secret: str = SECRET) -> str:
    """The cookie of a customer who is signed in."""
    return f"session={customer}.{digest(secret.encode(), customer.encode(), sha256).hex()}"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, with the built SDK where npm would install it."""
    home, folder = tmp_path_factory.mktemp("express"), sdk()
    made = home / "example"
    shutil.copytree(SDK / "examples" / "express", made)
    packed = made / "node_modules" / "@noburn" / "sdk"
    packed.mkdir(parents=True)
    shutil.copy(folder / "package.json", packed)
    shutil.copytree(built(), packed / "dist")
    (home / "node_modules").symlink_to(folder / "node_modules")
    return made


class Asked:
    """The example as it runs."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, body: dict[str, Any], cookies: str) -> tuple[int, dict[str, Any]]:
        """Asks it something and returns the status and the answer."""
        request = urllib.request.Request(
            f"{self.url}/answer",
            json.dumps(body).encode(),
            {"content-type": "application/json", "cookie": cookies},
        )
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())


@pytest.fixture
def running(example: Path, control: Control, running_double: ProviderDouble) -> Iterator[Asked]:
    """The example's process; SIGTERM ends it, and it must end well."""
    running_double.reset()
    environment = {
        **live_environment(control, running_double),
        "PATH": os.environ["PATH"],
        "PORT": "0",
        "OPENAI_BASE_URL": running_double.openai_url,
        "OPENAI_API_KEY": "sk-any",
        "SESSION_SECRET": SECRET,
    }
    command = [str(node(24)), str(example / "server.ts")]
    with subprocess.Popen(
        command, cwd=example, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), process.stderr.read() if process.poll() is not None else url
        try:
            yield Asked(url)
        finally:
            process.terminate()
            process.wait(SECONDS)
        assert process.returncode == 0, process.stderr.read()


class TestExpress:
    def test_answers_refuses_and_settles(
        self, running: Asked, control: Control, running_double: ProviderDouble
    ) -> None:
        control.plane.account.world.recover()
        rich, poor = control.plane.customer(), control.plane.customer("0.000000001")
        status, answer = running.ask({"question": "Hi"}, cookie(rich.name))
        assert (status, bool(answer.get("answer"))) == (200, True), answer
        status, answer = running.ask({"question": "Hi"}, cookie(poor.name))
        assert (status, answer["reason"]) == (402, "budget_exceeded")
        assert running.ask({"question": "Hi"}, cookie(rich.name, "another secret"))[0] == 401
        assert running.ask({"question": ""}, cookie(rich.name))[0] == 400
        assert len(running_double.ledger()) == 1
