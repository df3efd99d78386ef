"""Serves the double: `python -m tests.doubles.stripe --port 9400`. Ends on SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import threading
from types import FrameType

from tests.doubles.stripe.server import Server


def main() -> None:
    """Reads the command line and serves."""
    parser = argparse.ArgumentParser(prog="python -m tests.doubles.stripe", description=__doc__)
    parser.add_argument("--port", type=int, default=9400)
    parser.add_argument("--running", action="store_true", help="let the clock go with real time")
    options = parser.parse_args()
    server = Server(options.port)
    server.engine.world.clock.run(options.running)

    def stop(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=server.end).start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server.serve_forever(0.05)


if __name__ == "__main__":
    main()
