#!/usr/bin/env python
"""Django's command line; starts the embedded servers first where no URLs of others are given."""

from __future__ import annotations

import os
import sys

# These neither need servers nor should wait for them. `database` and `serve` decide for themselves.
WITHOUT_SERVERS = frozenset(
    {
        "",
        "help",
        "version",
        "--help",
        "-h",
        "--version",
        "check",
        "collectstatic",
        "database",
        "makemigrations",
        "serve",
    }
)


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noburn.settings")
    from django.core.management import execute_from_command_line

    from noburn.kit.tenancy import span_in_this_process
    from noburn.runtime.errors import RuntimeProblem

    # A command is an operator's. What it serves as requests begins with nobody all the same (noburn.runtime.requests).
    span_in_this_process()
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        needed = command not in WITHOUT_SERVERS or (command == "check" and "--database" in sys.argv)
        if needed and not {"--help", "-h"} & set(sys.argv):
            from noburn.runtime.usage import use_servers

            use_servers()
        execute_from_command_line(sys.argv)
    except RuntimeProblem as problem:
        sys.exit(f"noburn: {problem}")


if __name__ == "__main__":
    main()
