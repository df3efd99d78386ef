"""What a test in TypeScript may ask of the noburn that it runs against: one POST for each thing, answered in JSON.

The work is done by pytest's own thread, one thing at a time: the hands on the databases belong to it. It also keeps the
epochs open meanwhile, which are good for a minute.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from budgets.services.price_overrides import NewPriceOverride, OverridePrice, create_price_override
from tests.sdk.plane import Customer, Plane, Served

RENEW_SECONDS = 10.0
POLL_SECONDS = 0.05
ANSWER_SECONDS = 120.0
BODY_MAX = 1_000_000

Job = tuple[str, dict[str, Any], "Future[Any]"]


class Control:
    """A small server beside a plane. Use it as a context, and `beside` to work off what it is asked."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane
        self._jobs: queue.Queue[Job] = queue.Queue()
        self._gateways: dict[int, Served] = {}
        self._routes: dict[str, Callable[..., Any]] = {
            "customer": self._customer,
            "budget": self._budget,
            "limit": self._limit,
            "ledger": self._ledger,
            "remaining": self._remaining,
            "counter": self._counter,
            "verify": self._verify,
            "price": self._price,
            "key": self._key,
            "gateway": self._gateway,
            "gateway/stop": self._stop,
            "gateway/start": self._start,
        }
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="control", daemon=True)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Control:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for served in self._gateways.values():
            served.close()

    def beside(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a program and works off what it asks meanwhile."""
        found: list[subprocess.CompletedProcess[str]] = []
        thread = threading.Thread(
            target=lambda: found.append(
                subprocess.run(command, capture_output=True, text=True, check=False, **options)
            )
        )
        thread.start()
        renewed = 0.0
        while thread.is_alive():
            if time.monotonic() - renewed > RENEW_SECONDS:
                self.plane.account.world.recover()
                renewed = time.monotonic()
            try:
                self._work(self._jobs.get(timeout=POLL_SECONDS))
            except queue.Empty:
                continue
        return found[0]

    def _work(self, job: Job) -> None:
        name, said, future = job
        try:
            future.set_result(self._routes[name](**said))
        except Exception as error:
            future.set_exception(error)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        control = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = min(int(self.headers.get("content-length") or 0), BODY_MAX)
                future: Future[Any] = Future()
                status = 200
                try:
                    said = json.loads(self.rfile.read(length) or b"{}")
                    control._jobs.put((self.path.strip("/"), said, future))
                    value = future.result(ANSWER_SECONDS)
                except Exception as error:
                    status, value = 400, {"error": repr(error)}
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        return Handler

    # What may be asked

    def _of(self, customer: str) -> Customer:
        return Customer(self.plane, customer)

    def _customer(self, limit_usd: str = "10", **fields: Any) -> dict[str, Any]:
        return {"name": self.plane.customer(limit_usd, **fields).name}

    def _budget(self, name: str, limit_usd: str, **fields: Any) -> dict[str, Any]:
        self.plane.account.budget(name, limit_usd, **fields)
        return {}

    def _limit(self, name: str, limit_usd: str) -> dict[str, Any]:
        self.plane.account.limit(name, limit_usd)
        return {}

    def _ledger(self, customer: str) -> list[dict[str, Any]]:
        names = ("kind", "tokens", "outcome", "model", "reported_model", "flags", "tags", "usage")
        return [
            {**{name: entry[name] for name in names}, "cost_usd": f"{entry['cost_usd']:f}"}
            for entry in self._of(customer).ledger()
        ]

    def _remaining(self, customer: str) -> dict[str, Any]:
        return {"usd": f"{self._of(customer).remaining():f}"}

    def _counter(self, name: str) -> dict[str, Any]:
        found = self.plane.account.counter(name)
        return {key: str(found[key]) for key in ("limit", "spent", "authority", "stranded")}

    def _verify(self) -> dict[str, Any]:
        found = self.plane.account.verify()
        return {"differences": [str(one) for one in found.differences], "unread": found.unread}

    def _price(self, provider: str, model: str, **usd_per_token: str) -> dict[str, Any]:
        now = datetime.now(UTC)
        prices = tuple(OverridePrice(unit=unit, price=usd) for unit, usd in usd_per_token.items())
        override = NewPriceOverride(provider=provider, model=model, prices=prices)
        create_price_override(
            tenant_id=self.plane.account.tenant_id, override=override, actor="test", now=now
        )
        return {}

    def _key(self, scopes: list[str]) -> dict[str, Any]:
        return {"secret": self.plane.account.key(scopes).secret}

    # A gateway that may go away

    def _gateway(self) -> dict[str, Any]:
        served = Served()
        self._gateways[served.port] = served
        return {"port": served.port, "url": served.url}

    def _stop(self, port: int) -> dict[str, Any]:
        self._gateways.pop(port).close()
        return {}

    def _start(self, port: int) -> dict[str, Any]:
        self._gateways[port] = Served(port=port)
        return {}
