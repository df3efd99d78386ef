"""`python -m proxy`: serves; `python -m proxy check`: reads the configuration; `python -m proxy key`: makes a key."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from proxy import keys
from proxy.config import read
from proxy.reading import ConfigError
from proxy.server import run, run_worker, set_up_logging


def main() -> int:
    """Reads the command line and runs."""
    parser = argparse.ArgumentParser(prog="python -m proxy", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("serve", "check", "key", "worker"), default="serve")
    parser.add_argument(
        "--config", type=Path, help="a TOML file; without it NOBURN_PROXY_CONFIG, else the environment"
    )
    options = parser.parse_args()
    if options.command == "key":
        key = keys.make()
        print(f'key  = "{key}"   # give this to the caller; it is shown once\nhash = "{keys.hash_of(key)}"')
        return 0
    try:
        config = read(options.config)
    except ConfigError as error:
        print(f"The proxy's configuration is not valid:\n{error}", file=sys.stderr)
        return 2
    if options.command == "check":
        print(f"valid: {len(config.upstreams)} upstreams, {len(config.keys)} virtual keys")
        return 0
    set_up_logging()
    if options.command == "worker":
        run_worker(config)
        return 0
    return run(config, ["--config", str(options.config)] if options.config is not None else [])


if __name__ == "__main__":
    sys.exit(main())
