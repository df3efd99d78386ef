"""`noburn`: who a key is, what budgets have left, what is being decided, what a request may cost."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlencode

from noburn_sdk import estimate
from noburn_sdk._answers import _ok
from noburn_sdk._requests import Request
from noburn_sdk._version import __version__
from noburn_sdk.client import Noburn
from noburn_sdk.errors import InvalidRequestError, NoburnError

PAGE = 200
PAGES_MAX = 500
BODY_BYTES_MAX = 64 * 1024 * 1024
_SUBJECTS = ("customer", "user", "project", "run", "plan", "provider", "model")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command. Returns 0, 1 for a failure that it names, 2 for bad arguments."""
    given = _parser().parse_args(argv)
    try:
        if given.command == "estimate":
            _estimate(given)
        else:
            with Noburn(given.api_key, given.base_url, timeout=given.timeout) as noburn:
                given.run(noburn, given)
    except NoburnError as error:
        print(f"noburn: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"noburn: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="noburn", description="Key and server are NOBURN_API_KEY and NOBURN_BASE_URL unless given."
    )
    parser.add_argument("--version", action="version", version=__version__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print JSON, one object a line for lists")
    common.add_argument("--api-key", help=argparse.SUPPRESS)
    common.add_argument("--base-url", help="where noburn is")
    common.add_argument("--timeout", type=float, default=10.0, help="seconds of one request")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str, run: Any = None) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text, parents=[common])
        made.set_defaults(run=run)
        return made

    command("whoami", "Shows the tenant that the key belongs to.", _whoami)
    budgets = command("budgets", "Lists budgets.", _budgets)
    budgets.add_argument("--scope")
    budgets.add_argument("--subject")
    remaining = command("remaining", "Shows what a call of these subjects would have left.", _remaining)
    for name in _SUBJECTS:
        remaining.add_argument(f"--{name}")
    tail = command("tail", "Follows what is decided.", _tail)
    for name in ("customer", "user", "run", "decision", "reason", "model"):
        tail.add_argument(f"--{name}")
    tail.add_argument("--once", action="store_true", help="print what there is and end")
    tail.add_argument("--interval", type=float, default=1.0, help="seconds between two questions")
    bound = command("estimate", "Bounds a request that lies in a file as JSON; nothing is sent to noburn.")
    bound.add_argument("file", help="the body as the provider would be sent it; - for standard input")
    bound.add_argument("--api", choices=get_args(estimate.Api), default="openai.chat")
    bound.add_argument("--model", help="where the body names none")
    return parser


def _get(noburn: Noburn, path: str, **query: Any) -> dict[str, Any]:
    said = {name: value for name, value in query.items() if value is not None}
    return _ok(noburn._ask(Request("GET", path + (f"?{urlencode(said)}" if said else ""))))


def _print(given: argparse.Namespace, value: dict[str, Any], text: str) -> None:
    print(json.dumps(value) if given.json else text, flush=True)


def _whoami(noburn: Noburn, given: argparse.Namespace) -> None:
    tenant = _get(noburn, "/v1/tenant")
    told = {name: value for name, value in tenant.items() if not isinstance(value, dict | list)}
    lines = [f"{name:<28} {value}" for name, value in told.items()]
    _print(given, tenant, "\n".join([f"{'server':<28} {noburn.base_url}", *lines]))


def _budgets(noburn: Noburn, given: argparse.Namespace) -> None:
    cursor = None
    for _ in range(PAGES_MAX):
        page = _get(
            noburn,
            "/v1/budgets",
            archived="false",
            limit=PAGE,
            scope=given.scope,
            subject=given.subject,
            cursor=cursor,
        )
        for item in page["items"]:
            _print(given, item, f"{item['id']}  {item['name']}  ({item['action']})")
        cursor = page.get("next_cursor")
        if not cursor:
            return


def _remaining(noburn: Noburn, given: argparse.Namespace) -> None:
    found = noburn.remaining(**{name: getattr(given, name) for name in _SUBJECTS})
    if given.json:
        print(json.dumps(found.raw))
        return
    if not found.budgets:
        print("no budget matches")
    for one in found.budgets:
        left = next(
            (f"{one.raw[name]}" for name in one.raw if name.startswith("remaining_")), "an unknown amount"
        )
        limit = next((f"{one.raw[name]}" for name in one.raw if name.startswith("limit_")), "?")
        unit = next((name.removeprefix("limit_") for name in one.raw if name.startswith("limit_")), "")
        until = f" until {one.resets_at.isoformat()}" if one.resets_at else ""
        print(f"{one.id}  {one.scope} {one.subject or ''}: {left} of {limit} {unit} left{until}")


def _tail(noburn: Noburn, given: argparse.Namespace) -> None:
    query = {
        name: getattr(given, name) for name in ("customer", "user", "run", "decision", "reason", "model")
    }
    # The newest page first, and from then on only what came after it.
    items = _get(noburn, "/v1/decisions", limit=20, **query)["items"]
    after = items[0]["id"] if items else None
    for item in reversed(items):
        _decision(given, item)
    while not given.once:
        time.sleep(max(given.interval, 0.1))
        fresh = _since(noburn, after, query)
        for item in fresh:
            _decision(given, item)
            after = item["id"]


def _since(noburn: Noburn, after: str | None, query: dict[str, Any]) -> list[dict[str, Any]]:
    """What was decided after this one, oldest first."""
    found: list[dict[str, Any]] = []
    cursor = None
    for _ in range(PAGES_MAX):
        page = _get(noburn, "/v1/decisions", limit=PAGE, after=after, cursor=cursor, **query)
        found += page["items"]
        cursor = page.get("next_cursor")
        if not cursor:
            break
    return sorted(found, key=lambda item: (item["decided_at"], item["id"]))


def _decision(given: argparse.Namespace, item: dict[str, Any]) -> None:
    who = " ".join(f"{name}={item[name]}" for name in ("customer", "user", "run") if item.get(name))
    why = f" {item['reason']}" if item.get("reason") else ""
    _print(given, item, f"{item['decided_at']}  {item['decision']}{why}  {item['model']}  {who}")


def _estimate(given: argparse.Namespace) -> None:
    raw = sys.stdin.buffer.read(BODY_BYTES_MAX) if given.file == "-" else Path(given.file).read_bytes()
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise InvalidRequestError("Cannot estimate", errors={given.file: f"is not JSON: {error}"}) from error
    found = estimate.estimate(body, api=given.api, model=given.model)
    value = {
        **found.options(),
        "how": found.how,
        "complete": found.complete,
        "injects_cap": found.inject_cap,
        "parts": [vars(part) for part in found.parts],
        "warnings": list(found.warnings),
    }
    lines = [f"{name:<20} {value[name]}" for name in value if name not in ("parts", "warnings")]
    lines += [f"  {part.kind:<18} {part.tokens:>8} tokens, {part.how} {part.note}" for part in found.parts]
    _print(given, value, "\n".join([*lines, *(f"warning: {text}" for text in found.warnings)]))


if __name__ == "__main__":
    sys.exit(main())
