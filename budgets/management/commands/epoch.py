"""`manage.py epoch run|status|close|slots|writeoff`: the recovery controller, and what operators may do with epochs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from budgets.domain.escrow import SHARDS
from budgets.services.operations import (
    Operations,
    RedisUnavailable,
    StorageUnavailable,
    WriteoffTooEarly,
    whereabouts,
)
from budgets.services.recovery import EpochFailed


def _shard_list(text: str) -> list[int]:
    """Shards such as `3,17,40-43`, in order and once each."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdigit() or not (last or first).isdigit():
            raise ArgumentTypeError(f"{part!r} is no shard; write numbers and ranges such as 3,17,40-43")
        found |= set(range(int(first), int(last or first) + 1)) if int(last or first) < SHARDS else {SHARDS}
    if not found or max(found) >= SHARDS:
        raise ArgumentTypeError(f"shards are 0 to {SHARDS - 1}, and a range begins with its smaller number")
    return sorted(found)


class Command(BaseCommand):
    help = "Runs the recovery controller, shows epochs, closes them for a planned restart, writes off stranded authority."

    def add_arguments(self, parser: ArgumentParser) -> None:
        does = parser.add_subparsers(dest="does", required=True)
        does.add_parser("run", help="keep one open epoch in every shard, until Ctrl-C")
        status = does.add_parser("status", help="epochs by shard, and stranded authority")
        status.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        close = does.add_parser("close", help="before Redis is restarted on purpose: strands nothing")
        which = close.add_mutually_exclusive_group(required=True)
        which.add_argument("--shard", type=int, choices=range(SHARDS), metavar=f"0..{SHARDS - 1}")
        which.add_argument("--shards", type=_shard_list, help="several, such as 3,17,40-43", metavar="LIST")
        which.add_argument("--all", action="store_true")
        which.add_argument("--used", action="store_true", help="only shards whose counters hold something")
        close.add_argument(
            "--seconds", type=float, help="give up after this long; what was not closed stays open"
        )
        slots = does.add_parser("slots", help="which hash slot and which server each shard's keys are in")
        slots.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
        off = does.add_parser("writeoff", help="return stranded authority to its budgets, with a name on it")
        off.add_argument("--epoch", required=True, help="the epoch's id, as `epoch status` shows it")
        off.add_argument("--counter", help="one counter only")
        off.add_argument("--actor", required=True, help="who decides it")
        off.add_argument("--reason", required=True)

    def handle(self, *_args: Any, **options: Any) -> None:
        try:
            asyncio.run(self._run(options))
        except (StorageUnavailable, RedisUnavailable) as error:
            raise CommandError(f"cannot be done now, and can be repeated: {error}") from error
        except (EpochFailed, WriteoffTooEarly) as error:
            raise CommandError(str(error)) from error

    async def _run(self, options: dict[str, Any]) -> None:
        urls = {"database_url": settings.DATABASE_URL, "redis_url": settings.REDIS_CONTROL_URL}
        async with Operations.connected(**urls) as operations:
            match options["does"]:
                case "run":
                    await self._control(operations)
                case "status":
                    await self._status(operations, as_json=options["json"])
                case "slots":
                    self._slots(as_json=options["json"])
                case "close":
                    await self._close(operations, await self._shards(operations, options), options["seconds"])
                case _:
                    await self._write_off(operations, options)

    async def _control(self, operations: Operations) -> None:
        task = asyncio.create_task(operations.control())
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(name, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _status(self, operations: Operations, *, as_json: bool) -> None:
        status = await operations.status()
        if as_json:
            found = {"epochs": [asdict(row) for row in status.epochs], "stranded": status.stranded}
            self.stdout.write(json.dumps(found, default=str))
            return
        states: dict[str, int] = {}
        for row in status.epochs:
            states[row.state] = states.get(row.state, 0) + 1
        missing = SHARDS - len(status.epochs)
        shown = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"
        self.stdout.write(
            f"shards: {SHARDS}; epochs: {shown}" + (f"; {missing} without one" if missing else "")
        )
        for row in status.epochs:
            if row.state != "open":
                self.stdout.write(
                    f"  shard {row.shard}: {row.epoch_id} {row.state}, valid until {row.valid_until}"
                )
        if not status.stranded:
            self.stdout.write("nothing is stranded")
        for line in status.stranded:
            self.stdout.write(
                f"  stranded {line['authority']} ({line['metric']}) of {line['budget']!r} subject {line['subject']!r}, "
                f"window ends {line['ends_at'] or 'never'}; epoch {line['epoch']} counter {line['counter']}"
            )

    def _slots(self, *, as_json: bool) -> None:
        found = whereabouts(redis_url=settings.REDIS_URL)
        if as_json:
            self.stdout.write(json.dumps({"shards": [asdict(one) for one in found]}))
            return
        for one in found:
            self.stdout.write(f"shard {one.shard:2}  slot {one.slot:5}  {one.server}")

    async def _shards(self, operations: Operations, options: dict[str, Any]) -> list[int]:
        if options["used"]:
            return await operations.used_shards()
        if options["shards"]:
            return list(options["shards"])
        return list(range(SHARDS)) if options["all"] else [options["shard"]]

    async def _close(self, operations: Operations, shards: list[int], seconds: float | None) -> None:
        retired = unknown = closed = 0
        try:
            async with asyncio.timeout(seconds):
                for shard in shards:
                    result = await operations.close(shard)
                    retired, unknown, closed = retired + result.retired, unknown + result.unknown, closed + 1
        except TimeoutError:
            raise CommandError(f"{closed} of {len(shards)} epochs were closed in {seconds:g} s") from None
        self.stdout.write(
            f"closed {len(shards)} epochs and opened new ones; {retired} counters gave back what was free"
        )
        if unknown:
            self.stdout.write(f"{unknown} counters were not in Redis: what they had stays locked")

    async def _write_off(self, operations: Operations, options: dict[str, Any]) -> None:
        status = await operations.status()
        wanted = (options["epoch"], options["counter"])
        lines = [
            line
            for line in status.stranded
            if str(line["epoch"]) == wanted[0] and wanted[1] in (None, str(line["counter"]))
        ]
        if not lines:
            raise CommandError("nothing of this epoch is stranded; `epoch status` lists what is")
        for line in lines:
            amount = await operations.write_off(line, actor=options["actor"], reason=options["reason"])
            self.stdout.write(
                f"wrote off {amount} ({line['metric']}) of {line['budget']!r} subject {line['subject']!r}"
            )
