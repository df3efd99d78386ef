"""Serves the double: `python -m tests.doubles.provider --port 9300`. Ends on SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import signal
import warnings

import uvloop
from granian.constants import HTTPModes, Interfaces

from tests.doubles.provider.app import Provider
from tests.doubles.provider.ledger import ENTRIES_MAX


async def serve(port: int, entries_max: int) -> None:
    """Serves on 127.0.0.1 until a signal ends it; one process, since the ledger lives in memory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from granian.server.embed import Server

    server = Server(
        Provider(entries_max),
        address="127.0.0.1",
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        backlog=1024,
        log_enabled=False,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    await server.serve()


def main() -> None:
    """Reads the command line and serves."""
    parser = argparse.ArgumentParser(prog="python -m tests.doubles.provider", description=__doc__)
    parser.add_argument("--port", type=int, default=9300)
    parser.add_argument("--ledger", type=int, default=ENTRIES_MAX, help="calls remembered one by one")
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.ledger))


if __name__ == "__main__":
    main()
