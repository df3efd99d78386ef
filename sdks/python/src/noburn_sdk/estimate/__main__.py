"""`python -m noburn_sdk.estimate FILE --api openai.chat`: what a request can use at most, and how that is known."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noburn_sdk.errors import InvalidRequestError
from noburn_sdk.estimate import APIS, UnpricedError, estimate, explain, rates_from

BODY_BYTES_MAX = 128 * 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints an estimate of a request's body in JSON; returns 0, 1 above --limit, 2 for what cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m noburn_sdk.estimate", description=__doc__)
    parser.add_argument("file", help="the body of the request in JSON; - reads it from standard input")
    parser.add_argument("--api", choices=APIS, required=True)
    parser.add_argument("--model", help="where the body names none, as Gemini's")
    parser.add_argument("--limit", type=int, help="input tokens above which the call would be refused")
    parser.add_argument("--max-output-tokens", type=int, help="the cap to assume where the request has none")
    parser.add_argument("--max-input-tokens", type=int, help="what you know of the whole input")
    parser.add_argument("--context-window", type=int, help="the model's")
    parser.add_argument("--batch", action="store_true", help="the line of a batch")
    parser.add_argument("--prices", help="what GET /v1/prices answers, in a file: adds the cost")
    options = vars(parser.parse_args(arguments))
    file, api, prices = options.pop("file"), options.pop("api"), options.pop("prices")
    try:
        body = _read(file)
        if prices is not None:
            model = options["model"] or body["model"]
            options["rates"] = rates_from(_read(prices), model)
        found = estimate(body, api=api, **options)
    except InvalidRequestError as error:
        wrong = "; ".join(f"{name} {message}" for name, message in error.errors.items())
        print(f"{error}: {wrong}" if wrong and wrong not in str(error) else error, file=sys.stderr)
        return 2
    except (OSError, ValueError, LookupError, TypeError, UnpricedError) as error:
        print(f"Cannot estimate: {error}", file=sys.stderr)
        return 2
    print(explain(found))
    return 1 if found.exceeds_limit else 0


def _read(file: str) -> Any:
    if file == "-":
        raw = sys.stdin.buffer.read(BODY_BYTES_MAX + 1)
    else:
        with Path(file).open("rb") as opened:
            raw = opened.read(BODY_BYTES_MAX + 1)
    if len(raw) > BODY_BYTES_MAX:
        raise ValueError(f"{file} is longer than {BODY_BYTES_MAX} bytes")
    return json.loads(raw)


if __name__ == "__main__":
    sys.exit(main())
