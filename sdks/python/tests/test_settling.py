"""What becomes of settlements: batches, outages, killed processes, forks, finalizers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from noburn_sdk._answers import Reply
from noburn_sdk._exchange import Lost
from noburn_sdk._requests import Request
from noburn_sdk.gate import Asked
from noburn_sdk.integrations.openai.endpoints import CHAT
from noburn_sdk.settling import Outbox, Resolution
from noburn_sdk.settling import outbox as outboxes
from noburn_sdk.testing import MemoryGate, MemoryPlane
from noburn_sdk.usage import Usage

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "canary-of-a-prompt"}]}
ASKED = Asked(CHAT, "gpt-4o-mini", BODY)
USED = Usage(10, 5)
CHILD = Path(__file__).with_name("gate_child.py")
SECONDS = 60.0


@pytest.fixture
def plane() -> MemoryPlane:
    return MemoryPlane()


@pytest.fixture
def gate(plane: MemoryPlane, tmp_path: Path) -> Iterator[MemoryGate]:
    made = MemoryGate(plane, outbox=tmp_path)
    yield made
    made.close(SECONDS)


def lines(directory: Path) -> list[dict[str, Any]]:
    """Everything that lies in an outbox."""
    return [
        json.loads(line) for path in directory.rglob("*.jsonl") for line in path.read_bytes().splitlines()
    ]


class TestSettler:
    def test_sends_many_in_few_batches(self, gate: MemoryGate, plane: MemoryPlane) -> None:
        for held in [gate.admit(ASKED) for _ in range(300)]:
            held.finish(USED)
        assert gate.flush(SECONDS)
        assert len(plane.settlements) == 300
        assert [path for path, _ in plane.requests].count("/v1/settle/batch") < 100

    def test_settles_each_hold_once(self, gate: MemoryGate, plane: MemoryPlane) -> None:
        held = gate.admit(ASKED)
        held.finish(USED)
        held.void()
        held.finish(None, outcome="cut")
        assert gate.flush(SECONDS)
        assert [one.state for one in plane.settlements] == ["settled"]
        assert not held.open

    def test_keeps_what_an_outage_delays(self, gate: MemoryGate, plane: MemoryPlane, tmp_path: Path) -> None:
        held = [gate.admit(ASKED) for _ in range(3)]
        plane.unavailable = True
        held[0].finish(USED)
        held[1].void()
        held[2].finish(None, outcome="cut")
        assert {line["op"] for line in lines(tmp_path)} == {"settle", "void"}
        plane.unavailable = False
        assert gate.flush(SECONDS)
        assert sorted(one.state for one in plane.settlements) == ["presumed", "settled", "voided"]
        # Nothing is left once noburn has it all.
        assert lines(tmp_path) == []

    def test_may_be_used_by_threads_at_once(self, gate: MemoryGate, plane: MemoryPlane) -> None:
        def calls() -> None:
            for _ in range(50):
                gate.admit(ASKED).finish(USED)

        threads = [threading.Thread(target=calls) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        assert gate.flush(SECONDS)
        assert len({one.hold_id for one in plane.settlements}) == 400

    def test_does_not_wait_longer_than_told_at_the_end(self, plane: MemoryPlane, tmp_path: Path) -> None:
        made = MemoryGate(plane, outbox=tmp_path, flush_timeout=0.2)
        held = made.admit(ASKED)
        plane.unavailable = True
        held.finish(USED)
        assert made.close() is False
        plane.unavailable = False
        later = MemoryGate(plane, outbox=tmp_path)
        later.admit(ASKED).finish(USED)
        assert later.close(SECONDS)
        assert len(plane.settlements) == 2

    def test_keeps_what_memory_does_not_hold_on_disk(
        self, gate: MemoryGate, plane: MemoryPlane, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("noburn_sdk.settling.settler.MEMORY_MAX", 1)
        held = [gate.admit(ASKED) for _ in range(20)]
        plane.unavailable = True
        for one in held:
            one.finish(USED)
        plane.unavailable = False
        assert gate.flush(SECONDS)
        gate.admit(ASKED).finish(USED)
        assert gate.flush(SECONDS)
        assert len(plane.settlements) == 21


class Waiting(MemoryPlane):
    """Keeps each pre-flight waiting until it is told to answer one."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def answer(self, request: Request) -> Reply | Lost:
        if request.path == "/v1/preflight":
            self.asked.release()
            assert self.go.acquire(timeout=SECONDS)
        return super().answer(request)


class TestReclaims:
    """What a pre-flight without an answer may have held is freed, and no settlement waits for that."""

    QUESTION: ClassVar[dict[str, Any]] = {"model": "gpt-4o-mini", "subject": {"customer": "acme"}}

    def test_let_settlements_go_first(self, tmp_path: Path) -> None:
        plane = Waiting()
        gate = MemoryGate(plane, outbox=tmp_path)
        plane.go.release()
        held = gate.admit(ASKED)
        assert plane.asked.acquire(timeout=SECONDS)
        for number in range(3):
            gate.settler.put(Resolution("reclaim", f"lost-{number}", self.QUESTION))
        assert plane.asked.acquire(timeout=SECONDS)
        # One waits at the gateway. What is settled meanwhile is sent before the other two are asked.
        held.finish(USED)
        plane.go.release()
        assert plane.asked.acquire(timeout=SECONDS)
        assert [one.state for one in plane.settlements] == ["voided", "settled"]
        plane.go.release(2)
        assert gate.close(SECONDS)
        assert [one.state for one in plane.settlements] == ["voided", "settled", "voided", "voided"]
        assert lines(tmp_path) == []

    def test_are_sent_every_few_seconds_while_settlements_keep_coming(
        self, gate: MemoryGate, plane: MemoryPlane, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("noburn_sdk.settling.settler.ASIDE_SECONDS", 0.05)
        ended = threading.Event()
        answer = plane.answer

        def busy(request: Request) -> Reply | Lost:
            # Whenever settlements arrive the next one waits already.
            if request.path == "/v1/settle/batch" and not ended.is_set():
                held.append(gate.admit(ASKED))
                held[-1].finish(USED)
            if request.path == "/v1/preflight" and request.idempotency_key == "lost":
                ended.set()
            return answer(request)

        held = [gate.admit(ASKED)]
        monkeypatch.setattr(plane, "answer", busy)
        held[0].finish(USED)
        gate.settler.put(Resolution("reclaim", "lost", self.QUESTION))
        assert ended.wait(SECONDS)
        assert gate.flush(SECONDS)
        assert sorted({one.state for one in plane.settlements}) == ["settled", "voided"]

    def test_are_sent_once_noburn_answers_again(self, gate: MemoryGate, plane: MemoryPlane) -> None:
        plane.unavailable = True
        gate.settler.put(Resolution("reclaim", "lost", self.QUESTION))
        assert not gate.flush(0.05)
        plane.unavailable = False
        gate.admit(ASKED).finish(USED)
        assert gate.flush(SECONDS)
        assert sorted(one.state for one in plane.settlements) == ["settled", "voided"]
        assert gate.settler.waiting == 0


class TestOutbox:
    def test_holds_no_word_of_a_prompt(self, gate: MemoryGate, plane: MemoryPlane, tmp_path: Path) -> None:
        held = gate.admit(ASKED)
        plane.unavailable = True
        held.settle({"model": "gpt-4o-mini", "usage": {"prompt_tokens": 9, "completion_tokens": 3}})
        (line,) = lines(tmp_path)
        assert set(line) == {"at", "op", "body", "key"}
        assert set(line["body"]) == {"authorization", "usage", "outcome", "model", "latency_ms"}
        assert "canary" not in json.dumps(lines(tmp_path))
        assert all("canary" not in body.decode() for _, body in plane.requests)
        assert all(path.stat().st_mode & 0o077 == 0 for path in tmp_path.rglob("*.jsonl"))
        plane.unavailable = False

    def test_arrives_after_its_process_was_killed(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [sys.executable, str(CHILD), str(tmp_path), "5"],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert (done.returncode, done.stdout) == (-signal.SIGKILL, "settled\n"), done.stderr
        left = lines(tmp_path)
        assert len(left) == 5
        assert "canary" not in json.dumps(left)
        plane = MemoryPlane()
        gate = MemoryGate(plane, outbox=tmp_path)
        assert gate.flush(SECONDS)
        sent = [json.loads(body) for path, body in plane.requests if path == "/v1/settle/batch"]
        tokens = [item["authorization"] for body in sent for item in body["settlements"]]
        assert sorted(tokens) == sorted(line["body"]["authorization"] for line in left)
        assert gate.close(SECONDS)
        assert list(tmp_path.rglob("*.jsonl")) == []

    def test_keeps_what_a_later_version_wrote_and_delivers_the_rest(
        self, plane: MemoryPlane, tmp_path: Path
    ) -> None:
        gate = MemoryGate(plane, outbox=tmp_path)
        held = gate.admit(ASKED)
        plane.unavailable = True
        held.finish(USED)
        assert gate.close(0.1) is False
        (left,) = tmp_path.rglob("*.jsonl")
        strange = {"at": lines(tmp_path)[0]["at"], "op": "of tomorrow", "key": "hold_strange", "body": {}}
        left.write_bytes(json.dumps(strange).encode() + b"\n" + left.read_bytes())
        plane.unavailable = False
        later = MemoryGate(plane, outbox=tmp_path)
        assert later.flush(SECONDS)
        later.admit(ASKED).finish(USED)
        assert later.close(SECONDS)
        assert [one.state for one in plane.settlements] == ["settled", "settled"]
        (kept,) = tmp_path.rglob("*.jsonl")
        ((_, items),) = list(Outbox(kept.parent).claim())
        assert [item["key"] for item in items] == ["hold_strange"]

    def test_is_not_taken_from_a_living_process(self, tmp_path: Path) -> None:
        mine, other = Outbox(tmp_path), Outbox(tmp_path)
        assert mine.append("hold_1", {"op": "void", "body": {"authorization": "a"}})
        assert list(other.claim()) == []
        mine.leave()
        ((path, items),) = list(other.claim())
        assert (path, [item["key"] for item in items]) == (mine.path, ["hold_1"])
        assert not path.exists()

    def test_reads_a_file_that_a_lost_machine_cut(self, tmp_path: Path) -> None:
        mine, other = Outbox(tmp_path), Outbox(tmp_path)
        for name in ("hold_1", "hold_2"):
            assert mine.append(name, {"op": "void", "body": {"authorization": name}})
        mine.leave()
        mine.path.write_bytes(mine.path.read_bytes()[:-7])
        ((_, items),) = list(other.claim())
        assert [item["key"] for item in items] == ["hold_1"]

    def test_stays_small_while_some_are_delivered(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(outboxes, "COMPACT_BYTES", 1_000)
        box = Outbox(tmp_path)
        box.append("stays", {"op": "void", "body": {"authorization": "stays"}})
        for number in range(200):
            box.append(f"hold_{number}", {"op": "void", "body": {"authorization": str(number)}})
            box.done([f"hold_{number}"])
        assert [item["key"] for item in box.held()] == ["stays"]
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_000
        assert len(list(tmp_path.iterdir())) == 1
        box.close()

    def test_is_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outboxes, "BYTES_MAX", 300)
        box = Outbox(tmp_path)
        kept = [box.append(f"h{n}", {"op": "void", "body": {"authorization": "x" * 50}}) for n in range(9)]
        assert kept[0]
        assert not kept[-1]
        assert box.path.stat().st_size <= 300
        box.close()

    def test_says_when_it_cannot_write(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "file").write_text("")
        box = Outbox(tmp_path / "file" / "outbox")
        assert not box.append("h", Resolution("void", "h", {"authorization": "a"}).to_disk())
        assert "cannot be written" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
class TestFork:
    def test_lets_a_child_start_afresh(self, gate: MemoryGate, plane: MemoryPlane) -> None:
        held = gate.admit(ASKED)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                # The parent's hold is the parent's to end; the child's own calls settle by a thread of its own.
                held.finish(USED)
                inherited = len(plane.settlements)
                gate.admit(ASKED).finish(Usage(7, 7))
                arrived = gate.flush(SECONDS)
                told = [dict(one.usage or {})["input_tokens"] for one in plane.settlements[inherited:]]
                os.write(writing, json.dumps([arrived, told]).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            assert json.loads(pipe.read()) == [True, [7]]
        os.waitpid(child, 0)
        held.finish(USED)
        assert gate.flush(SECONDS)
        assert [one.usage for one in plane.settlements] == [USED.to_wire()]
