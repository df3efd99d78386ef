"""What localstripe signs, which knows nothing of ours or of Stripe's client, the inbox takes; and nothing else of it."""

from __future__ import annotations

import http.client
import json
import queue
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from tests.billing.push.test_inbox import post, stored
from tests.sdk.environments import python_of

if TYPE_CHECKING:
    from tests.billing.push.till import Till

pytestmark = pytest.mark.real_db

HERE = Path(__file__).parent / "localstripe"
SECRET = "whsec_5ec0nd0p1n10n5ec0nd0p1n10n"
SECONDS = 120
TRIES = 600

Delivery = tuple[bytes, str]
"""A body, and its Stripe-Signature."""


class Receiver(BaseHTTPRequestHandler):
    """Keeps what is posted to it."""

    taken: queue.Queue[Delivery]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.taken.put((body, self.headers["stripe-signature"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def receiver() -> Iterator[tuple[str, queue.Queue[Delivery]]]:
    """An endpoint: its URL, and what came to it."""
    taken: queue.Queue[Delivery] = queue.Queue()
    kept = type("Kept", (Receiver,), {"taken": taken})
    with ThreadingHTTPServer(("127.0.0.1", 0), kept) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", taken
        server.shutdown()
        thread.join()


@pytest.fixture
def localstripe() -> Iterator[int]:
    """The port of a localstripe that listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    running = subprocess.Popen(
        [python_of(HERE / "requirements.txt"), HERE / "program.py", str(port)],
        stderr=subprocess.PIPE,
        text=True,
    )
    yield port
    running.terminate()
    running.communicate(timeout=SECONDS)


def ask(port: int, path: str, fields: dict[str, str]) -> None:
    """Posts a form to localstripe, as soon as it listens."""
    waiting = threading.Event()
    for _ in range(TRIES):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        headers = {
            "authorization": "Bearer sk_test_other",
            "content-type": "application/x-www-form-urlencoded",
        }
        try:
            connection.request("POST", path, urlencode(fields), headers)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            return
        except ConnectionRefusedError:
            waiting.wait(0.1)
        finally:
            connection.close()
    raise AssertionError("localstripe does not listen")


class TestLocalstripe:
    def test_signs_as_the_inbox_verifies(
        self, till: Till, localstripe: int, receiver: tuple[str, queue.Queue[Delivery]]
    ) -> None:
        url, taken = receiver
        till.change(webhook_secrets=[SECRET])
        ask(localstripe, "/_config/webhooks/noburn", {"url": url, "secret": SECRET})
        ask(localstripe, "/v1/customers", {"email": "acme@example.com"})
        body, signature = taken.get(timeout=SECONDS)
        told = json.loads(body)
        assert told["type"] == "customer.created"
        assert post(till, body.replace(b"acme", b"evil"), signature).status_code == 400
        till.change(webhook_secrets=["whsec_4n07h3r4n07h3r4n07h3r4n07h3r"])
        assert post(till, body, signature).status_code == 400
        assert stored(till) == []
        till.change(webhook_secrets=["whsec_4n07h3r4n07h3r4n07h3r4n07h3r", SECRET])
        assert post(till, body, signature).status_code == 204
        assert post(till, body, signature).status_code == 204
        assert [(row.event_id, row.type) for row in stored(till)] == [(told["id"], "customer.created")]
