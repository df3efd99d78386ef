"""Running the proxy: one process that serves, or several that share its port; begun, drained and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

from proxy.app import ProxyApp
from proxy.config import Config
from proxy.metrics import Metrics

log = logging.getLogger("proxy")
METRICS_DIRECTORY = "NOBURN_PROXY_METRICS_DIRECTORY"
RESTART_SECONDS = 0.5


def set_up_logging() -> None:
    """Writes to standard output: what happens as lines of text, requests as lines of JSON."""
    plain = logging.StreamHandler(sys.stdout)
    plain.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    for name in ("proxy", "noburn_sdk"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO if name == "proxy" else logging.WARNING)
        logger.handlers = [plain]
    bare = logging.StreamHandler(sys.stdout)
    bare.setFormatter(logging.Formatter("%(message)s"))
    access = logging.getLogger("proxy.access")
    access.handlers, access.propagate = [bare], False


async def serve(config: Config) -> None:
    """Serves until SIGTERM or SIGINT, then drains and ends."""
    with warnings.catch_warnings():
        # Its one loop per process, in this very process, is what signals and draining need.
        warnings.simplefilter("ignore")
        from granian.server.embed import Server
    directory = os.environ.get(METRICS_DIRECTORY)
    app = ProxyApp(config, Metrics(Path(directory) if directory else None))
    await app.startup()
    limits = config.limits
    server: Any = Server(
        app,
        address=config.host,
        port=config.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        backlog=limits.backlog,
        backpressure=limits.calls_max + limits.calls_max // 4 + 8,
        http1_settings=HTTP1Settings(
            header_read_timeout=int(limits.header_seconds * 1000), max_buffer_size=65_536
        ),
        log_enabled=False,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    saving = asyncio.ensure_future(app.keep_saving())
    serving = asyncio.ensure_future(server.serve())
    ending = asyncio.ensure_future(stop.wait())
    await _listening(config, serving)
    log.info("listening at http://%s:%d", config.host, config.port)
    await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
    log.info("draining")
    await app.drain()
    saving.cancel()
    server.stop()
    await serving
    await app.shutdown()
    ending.cancel()


async def _listening(config: Config, serving: asyncio.Future[None]) -> None:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)  # noqa: S104
    while not serving.done():
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, config.port)
            writer.close()
            return
        await asyncio.sleep(0.01)


def run_worker(config: Config) -> None:
    """Serves in this process."""
    uvloop.run(serve(config))


def run(config: Config, arguments: list[str]) -> int:
    """Serves; with several workers as several processes, each started again when it ends by itself."""
    _require_free_port(config)
    if config.workers == 1:
        run_worker(config)
        return 0
    with tempfile.TemporaryDirectory(prefix="noburn-proxy-") as directory:
        return _supervise(config, arguments, {**os.environ, METRICS_DIRECTORY: directory})


def _supervise(config: Config, arguments: list[str], environment: dict[str, str]) -> int:
    command = [sys.executable, "-m", "proxy", "worker", *arguments]
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        for worker in workers:
            worker.terminate()

    workers = [subprocess.Popen(command, env=environment) for _ in range(config.workers)]
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while not stopping:
        for place, worker in enumerate(workers):
            if worker.poll() is not None and not stopping:
                log.error("worker %d ended with %s and is started again", worker.pid, worker.returncode)
                workers[place] = subprocess.Popen(command, env=environment)
        time.sleep(RESTART_SECONDS)
    until = time.monotonic() + config.limits.drain_seconds + 2 * config.limits.flush_seconds + 5
    for worker in workers:
        try:
            worker.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
    return 0


def _require_free_port(config: Config) -> None:
    """Fails early and clearly: processes that share a port would hide another program's mistake."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            raise SystemExit(f"{config.host}:{config.port} cannot be used: {error.strerror}") from None
