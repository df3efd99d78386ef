"""What the bytes of a file in a request tell without being decoded: pixels, pages, seconds.

Data comes as base64, as a data URL or as bytes. Only the few bytes that are looked at are decoded, except for
PDFs, whose pages can only be counted over the whole file.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any

SEGMENTS_MAX = 2_000
PDF_BYTES_MAX = 64 * 2**20
INFLATED_MAX = 64 * 2**20
TAIL_BYTES = 65_536
MP3_BYTES_A_SECOND = 1_000
"""The lowest rate of MPEG audio is 8 kbit/s."""
SAMPLES_MAX = 2**40
"""Samples of nine months: a header that tells of more is not believed."""

_BLANKS = re.compile(r"\s+", re.ASCII)
_URL_SAFE = str.maketrans("-_", "+/")


def _name(word: str) -> bytes:
    """A pattern of a PDF's name, any letter of which may be written by its number."""
    return b"/" + b"".join(b"(?:%c|#%02x)" % (ord(c), ord(c)) for c in word)


_PAGE = re.compile(_name("Type") + rb"\s*" + _name("Page") + rb"(?![A-Za-z#])")
_OBJECT_STREAM = re.compile(rb"/ObjStm\b[^>]{0,400}>>\s*stream\r?\n|/ObjStm\b.{0,400}?stream\r?\n", re.DOTALL)


class Blob:
    """The bytes behind base64 text, read where they are wanted."""

    def __init__(self, data: str | bytes) -> None:
        self._raw = data if isinstance(data, bytes) else None
        self._text = ""
        if isinstance(data, str):
            # MIME wraps lines; one look at the beginning tells.
            self._text = _BLANKS.sub("", data) if _BLANKS.search(data, 0, 200) else data

    def __len__(self) -> int:
        if self._raw is not None:
            return len(self._raw)
        return len(self._text) * 3 // 4

    def read(self, at: int, size: int) -> bytes:
        """Returns up to `size` bytes from `at`; fewer at the end, none for what is not base64."""
        if at < 0:
            return b""
        if self._raw is not None:
            return self._raw[at : at + size]
        start = at // 3 * 4
        end = (at + size + 2) // 3 * 4
        piece = self._text[start:end].translate(_URL_SAFE).rstrip("=")
        if len(piece) % 4 == 1:
            piece = piece[:-1]
        if "=" in piece:
            # Python takes some that stand within.
            return b""
        try:
            found = base64.b64decode(piece + "=" * (-len(piece) % 4), validate=True)
        except (binascii.Error, ValueError):
            return b""
        return found[at - at // 3 * 3 :][:size]


@dataclass(frozen=True)
class Data:
    """Data that came with the request: its media type, if told, and its bytes."""

    media_type: str
    blob: Blob


def data_url(url: Any) -> Data | None:
    """Reads a data URL; None for any other address."""
    if not isinstance(url, str) or url[:5].lower() != "data:":
        return None
    head, comma, _ = url[:256].partition(",")
    if not comma:
        return None
    kind, *flags = head[5:].split(";")
    body = url[len(head) + 1 :]
    if any(flag.strip().lower() == "base64" for flag in flags):
        return Data(kind.lower(), Blob(body))
    return Data(kind.lower(), Blob(body.encode("utf-8", "surrogatepass")))


def pixels(blob: Blob) -> tuple[int, int] | None:
    """Returns width and height of a PNG, JPEG, GIF or WebP from its header; None for anything else."""
    head = blob.read(0, 32)
    found: tuple[int, int] | None = None
    if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR" and len(head) >= 24:
        found = struct.unpack(">II", head[16:24])
    elif head[:6] in (b"GIF87a", b"GIF89a") and len(head) >= 10:
        found = struct.unpack("<HH", head[6:10])
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP" and len(head) >= 30:
        found = _webp(head)
    elif head[:2] == b"\xff\xd8":
        found = _jpeg(blob)
    return found if found is not None and min(found) > 0 else None


def _webp(head: bytes) -> tuple[int, int] | None:
    if head[12:16] == b"VP8 ":
        width, height = struct.unpack("<HH", head[26:30])
        return width & 0x3FFF, height & 0x3FFF
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    return None


def _jpeg(blob: Blob) -> tuple[int, int] | None:
    at = 2
    for _ in range(SEGMENTS_MAX):
        head = blob.read(at, 10)
        if len(head) < 4 or head[0] != 0xFF:
            return None
        marker = head[1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD7 or marker == 0x01:
            at += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if len(head) < 9:
                return None
            height, width = struct.unpack(">HH", head[5:9])
            return width, height
        if marker == 0xDA:
            return None
        at += 2 + struct.unpack(">H", head[2:4])[0]
    return None


def pdf_pages(blob: Blob) -> int | None:
    """Returns the pages of a PDF, at least as many as it has; None where they cannot be counted."""
    if len(blob) > PDF_BYTES_MAX:
        return None
    raw = blob.read(0, len(blob))
    if raw.lstrip()[:5] != b"%PDF-" or b"/Encrypt" in raw:
        return None
    pages = len(_PAGE.findall(raw))
    room = INFLATED_MAX
    for found in _OBJECT_STREAM.finditer(raw):
        head = raw[max(0, found.start() - 400) : found.end()]
        if b"/Predictor" in head[head.rfind(b"obj", 0, head.rfind(b"/ObjStm")) + 1 :]:
            return None
        try:
            inflated = zlib.decompressobj().decompress(raw[found.end() :], max(1, room))
        except zlib.error:
            return None
        room -= len(inflated)
        if room <= 0:
            return None
        pages += len(_PAGE.findall(inflated))
    return pages or None


def audio_ms(blob: Blob, kind: str) -> int | None:
    """Returns the milliseconds of audio, rounded up: from the header of WAV, FLAC and Ogg, by the lowest rate of
    MP3; None for anything else.
    """
    head = blob.read(0, 64)
    size = len(blob)
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _wav_ms(blob, size)
    if head[:4] == b"fLaC" and len(head) >= 26:
        bits = int.from_bytes(head[18:26], "big")
        rate, samples = bits >> 44, bits & (1 << 36) - 1
        return -(-samples * 1000 // rate) if rate and samples else None
    if head[:4] == b"OggS":
        return _ogg_ms(blob, head, size)
    if head[:3] == b"ID3" or (
        head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0 and "aac" not in kind
    ):
        return -(-size * 1000 // MP3_BYTES_A_SECOND)
    return None


def _wav_ms(blob: Blob, size: int) -> int | None:
    at = 12
    for _ in range(SEGMENTS_MAX):
        head = blob.read(at, 24)
        if len(head) < 8:
            return None
        length = struct.unpack("<I", head[4:8])[0]
        if head[:4] == b"fmt " and len(head) >= 20:
            sampled, told = struct.unpack("<II", head[12:20])
            block = int.from_bytes(head[20:22], "little")
            # A header whose rates contradict each other is believed where it makes the sound longer.
            rate = min(told, sampled * block) or told
            # The whole file: what a header says of its data's length is often wrong in recordings.
            return -(-size * 1000 // rate) if rate else None
        at += 8 + length + length % 2
    return None


def _ogg_ms(blob: Blob, head: bytes, size: int) -> int | None:
    tail = blob.read(max(0, size - TAIL_BYTES), TAIL_BYTES + 3)
    last = tail.rfind(b"OggS")
    if last < 0 or len(tail) < last + 14:
        return None
    samples = int.from_bytes(tail[last + 6 : last + 14], "little")
    if b"OpusHead" in head:
        rate = 48_000
    elif (vorbis := head.find(b"\x01vorbis")) >= 0:
        rate = int.from_bytes(head[vorbis + 12 : vorbis + 16], "little")
    else:
        return None
    # All ones: no packet ends on that page.
    return -(-samples * 1000 // rate) if rate and samples < SAMPLES_MAX else None
