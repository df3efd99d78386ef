"""Checkpoints of the audit log as lines of JSON, in files that are kept apart from the database."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from noburn.kit import ids
from tenants.domain import audit_chain as chain


class BadCheckpoint(ValueError):
    """A line of a file that is no checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A signed checkpoint."""

    point: chain.Point
    made_at: datetime
    kid: str
    signature: bytes

    def line(self) -> str:
        """Returns the checkpoint as one line of JSON."""
        return json.dumps(
            {
                "tenant": ids.encode(ids.TENANT, self.point.tenant_id),
                "sequence": self.point.sequence,
                "hash": self.point.hash.hex(),
                "made_at": self.made_at.isoformat(),
                "kid": self.kid,
                "signature": self.signature.hex(),
            }
        )


def append(folder: Path, checkpoints: Iterable[Kept], *, now: datetime) -> None:
    """Appends checkpoints to the month's file, durably; makes the folder, closed to others. Raises OSError."""
    lines = "".join(f"{kept.line()}\n" for kept in checkpoints)
    if not lines:
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # One write: several workers append to one file, and each line stays whole.
    file = os.open(folder / f"checkpoints-{now:%Y-%m}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, lines.encode())
        os.fsync(file)
    finally:
        os.close(file)


def files_in(folder: Path) -> list[Path]:
    """Returns the files that `append` has written there, oldest first."""
    return sorted(folder.glob("checkpoints-*.jsonl"))


def read(path: Path) -> Iterator[Kept]:
    """Reads a file of checkpoints. Raises OSError, BadCheckpoint."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield _kept(line)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise BadCheckpoint(f"{path}, line {number}: is no checkpoint ({error})") from error


def _kept(line: str) -> Kept:
    said = json.loads(line)
    return Kept(
        point=chain.Point(
            tenant_id=ids.decode(ids.TENANT, said["tenant"]),
            sequence=int(said["sequence"]),
            hash=bytes.fromhex(said["hash"]),
        ),
        made_at=datetime.fromisoformat(said["made_at"]),
        kid=str(said["kid"]),
        signature=bytes.fromhex(said["signature"]),
    )
