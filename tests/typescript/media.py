"""Files as requests carry them, drawn at random: whole, cut off, and what is none."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

from hypothesis import strategies as st

sides = st.sampled_from((0, 1, 27, 28, 300, 384, 512, 768, 769, 1_024, 2_048, 3_073, 16_383, 65_535))
sizes = st.tuples(sides, sides)


def _jpeg(drawn: tuple[tuple[int, int], bytes, int]) -> bytes:
    (width, height), comment, marker = drawn
    told = b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment
    return (
        b"\xff\xd8\xff"
        + told
        + bytes((0xFF, marker))
        + struct.pack(">HBHHB", 17, 8, height, width, 3)
        + bytes(9)
    )


def _webp(drawn: tuple[str, tuple[int, int]]) -> bytes:
    kind, (width, height) = drawn
    body = {
        "VP8 ": bytes(10) + struct.pack("<HH", width & 0x3FFF, height & 0x3FFF),
        "VP8L": bytes(5) + struct.pack("<I", (width & 0x3FFF) | (height & 0x3FFF) << 14) + bytes(9),
        "VP8X": bytes(8) + struct.pack("<I", width)[:3] + struct.pack("<I", height)[:3],
    }[kind]
    return b"RIFF\0\0\0\0WEBP" + kind.encode() + body


images = st.one_of(
    sizes.map(lambda size: b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", *size) + bytes(8)),
    sizes.map(lambda size: b"GIF89a" + struct.pack("<HH", *size) + bytes(20)),
    st.tuples(sizes, st.binary(max_size=40), st.sampled_from((0xC0, 0xC2, 0xC4, 0xDA, 0xD0))).map(_jpeg),
    st.tuples(st.sampled_from(("VP8 ", "VP8L", "VP8X")), sizes).map(_webp),
)

PAGES = (
    b"<< /Type /Page >>",
    b"<</Type/Page/Parent 1 0 R>>",
    b"<< /#54ype\n/P#61ge >>",
    b"<< /Type /Pages /Count 3 >>",
)


def _packed(drawn: tuple[list[bytes], bytes, int, int]) -> bytes:
    pages, parameters, level, broken = drawn
    head = b"5 0 obj << /Type /ObjStm /N 2 /First 9 /Filter /FlateDecode %s/Length 9 >> stream\n" % parameters
    packed = bytearray(zlib.compress(b"1 0 2 20 " + b" ".join(pages) * 20, level))
    if broken >= 0:
        packed[broken % len(packed)] ^= 1 << broken % 8
    return head + bytes(packed) + b"\nendstream"


pages = st.lists(st.sampled_from(PAGES), max_size=4)
objects = st.one_of(
    st.sampled_from(PAGES),
    st.tuples(
        pages,
        st.sampled_from((b"", b"", b"/DecodeParms << /Predictor 12 >> ")),
        st.sampled_from((0, 1, 9)),
        st.integers(-9, 60),
    ).map(_packed),
)
pdfs = st.tuples(
    st.sampled_from((b"%PDF-1.7\n", b"\n %PDF-1.4 ", b"PDF", b"%PDF-1.5 /Encrypt ")),
    st.lists(objects, max_size=4),
).map(lambda drawn: drawn[0] + b"\n".join(drawn[1]) + b"\n%%EOF")


def _wav(drawn: tuple[int, int, int, int, bytes]) -> bytes:
    sampled, told, block, size, between = drawn
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sampled, told, block, 8)
    return (
        b"RIFF\0\0\0\0WAVE"
        + b"LIST"
        + struct.pack("<I", len(between))
        + between
        + form
        + b"data\0\0\0\0"
        + bytes(size)
    )


def _flac(drawn: tuple[int, int]) -> bytes:
    rate, samples = drawn
    return b"fLaC" + bytes(14) + (rate << 44 | samples).to_bytes(8, "big") + bytes(20)


def _ogg(drawn: tuple[bytes, int]) -> bytes:
    kind, samples = drawn
    return b"OggS" + bytes(24) + kind + bytes(30) + b"OggS\0\4" + samples.to_bytes(8, "little") + bytes(20)


rates = st.sampled_from((0, 1, 8_000, 44_100, 48_000, 96_000))
sounds = st.one_of(
    st.tuples(rates, rates, st.integers(0, 4), st.integers(0, 3_000), st.binary(max_size=9)).map(_wav),
    st.tuples(rates, st.integers(0, 2**36 - 1)).map(_flac),
    st.tuples(
        st.sampled_from((b"OpusHead", b"\x01vorbis" + bytes(5) + struct.pack("<I", 44_100), b"Speex")),
        st.integers(0, 2**30) | st.integers(0, 2**64 - 1),
    ).map(_ogg),
    st.binary(max_size=300).map(lambda data: b"ID3" + data),
    st.binary(max_size=300).map(lambda data: b"\xff\xfb" + data),
)


def _cut(drawn: tuple[bytes, int]) -> bytes:
    data, kept = drawn
    return data if kept > 60 else data[:kept]


def cut(data: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """The same, now and then cut off."""
    return st.tuples(data, st.integers(0, 240)).map(_cut)


def _digits(drawn: tuple[bytes, str, int]) -> str:
    data, how, at = drawn
    text = base64.b64encode(data).decode()
    if how == "url":
        return base64.urlsafe_b64encode(data).decode().rstrip("=")
    if how == "wrapped":
        return base64.encodebytes(data).decode()
    if how == "broken":
        place = at % (len(text) + 1)
        return text[:place] + "é=🙂 "[at % 4] + text[place:]
    return text


def digits(data: st.SearchStrategy[bytes]) -> st.SearchStrategy[str]:
    """Data as base64, in every way in which it is written, and in some in which it is not."""
    ways = st.sampled_from(("plain", "plain", "url", "wrapped", "broken"))
    return st.tuples(cut(data), ways, st.integers(0, 10_000)).map(_digits)


KINDS: dict[str, st.SearchStrategy[bytes]] = {
    "image/png": images,
    "application/pdf": pdfs,
    "audio/wav": sounds,
    "audio/aac": sounds,
    "text/plain": st.binary(max_size=80),
    "application/json": st.binary(max_size=80),
    "video/mp4": st.binary(max_size=80),
    "": pdfs,
}


def _url(drawn: tuple[str, tuple[str, str]]) -> str:
    kind, (mark, text) = drawn
    return f"data:{kind}{mark},{text}"


def urls() -> st.SearchStrategy[str]:
    """Addresses: data and others."""
    encoded = st.sampled_from(sorted(KINDS)).flatmap(
        lambda kind: st.tuples(
            st.sampled_from((kind, kind.upper())),
            st.tuples(st.sampled_from((";base64", ";charset=utf-8; BASE64 ")), digits(KINDS[kind])),
        ).map(_url)
    )
    plain = st.text(max_size=60).map(lambda text: f"DATA:text/plain;charset=utf-8,{text}")
    return st.one_of(
        encoded, encoded, plain, st.sampled_from(("https://example.com/a.png", "data:image/png", ""))
    )


def blobs() -> st.SearchStrategy[tuple[str, str]]:
    """A media type and base64 of it."""
    return st.sampled_from(sorted(KINDS)).flatmap(lambda kind: st.tuples(st.just(kind), digits(KINDS[kind])))


def any_blob() -> st.SearchStrategy[Any]:
    """base64 of anything, whatever it is said to be."""
    return st.one_of(digits(images), digits(pdfs), digits(sounds))
