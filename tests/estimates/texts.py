"""Texts of every kind, drawn at random: scripts by their Unicode blocks, JSON, base64, code, emoji, and what breaks."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import strategies as st

SCRIPTS: dict[str, tuple[int, int]] = {
    "Latin": (0x41, 0x7A),
    "Latin Extended": (0xC0, 0x24F),
    "IPA": (0x250, 0x2AF),
    "Greek": (0x370, 0x3FF),
    "Cyrillic": (0x400, 0x4FF),
    "Armenian": (0x531, 0x587),
    "Hebrew": (0x590, 0x5F4),
    "Arabic": (0x600, 0x6FF),
    "Syriac": (0x700, 0x74F),
    "Thaana": (0x780, 0x7B1),
    "Devanagari": (0x900, 0x97F),
    "Bengali": (0x980, 0x9FE),
    "Gurmukhi": (0xA01, 0xA76),
    "Gujarati": (0xA81, 0xAF1),
    "Oriya": (0xB01, 0xB77),
    "Tamil": (0xB82, 0xBFA),
    "Telugu": (0xC00, 0xC7F),
    "Kannada": (0xC80, 0xCF2),
    "Malayalam": (0xD00, 0xD7F),
    "Sinhala": (0xD81, 0xDF4),
    "Thai": (0xE01, 0xE5B),
    "Lao": (0xE81, 0xEDF),
    "Tibetan": (0xF00, 0xFDA),
    "Myanmar": (0x1000, 0x109F),
    "Georgian": (0x10A0, 0x10FF),
    "Ethiopic": (0x1200, 0x139F),
    "Cherokee": (0x13A0, 0x13FD),
    "Khmer": (0x1780, 0x17F9),
    "Mongolian": (0x1800, 0x18AA),
    "Hiragana": (0x3041, 0x309F),
    "Katakana": (0x30A0, 0x30FF),
    "Bopomofo": (0x3105, 0x312F),
    "Han": (0x4E00, 0x9FFF),
    "Hangul": (0xAC00, 0xD7A3),
    "Gothic": (0x10330, 0x1034A),
    "Mathematical": (0x1D400, 0x1D7FF),
    "Emoji": (0x1F300, 0x1FAFF),
    "Combining marks": (0x300, 0x36F),
    "Full-width": (0xFF01, 0xFF5E),
}
"""Scripts, and signs that tokenizers treat like one, by where they stand."""

BETWEEN = " \n\t\r.,;:!?-—'\"()[]{}/\\|_*#@&%+=<>0123456789"


def script(name: str, longest: int = 300) -> st.SearchStrategy[str]:
    """Texts of one script with blanks, signs and digits between."""
    first, last = SCRIPTS[name]
    letters = st.integers(first, last).map(chr)
    return st.text(st.one_of(letters, letters, letters, st.sampled_from(BETWEEN)), max_size=longest)


def values() -> st.SearchStrategy[Any]:
    """Values that JSON can hold."""
    leaves = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=20)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    )


NAMES = ("total", "user_id", "fetchAll", "X", "self", "итог", "n1")
LINES = (
    "def {0}({1}: int) -> str:\n    return f'{{{1}}}'\n",
    "for (let {0} = 0; {0} < {1}.length; {0}++) {{ sum += {1}[{0}]; }}\n",
    "\tif err := {0}({1}); err != nil {{\n\t\treturn err\n\t}}\n",
    "SELECT {0}, count(*) FROM {1} GROUP BY {0};\n",
    "        # {0} {1}\n",
    '<div class="{0}">{1}</div>\n',
    "#include <{0}.h>\r\n\r\n",
)


def code() -> st.SearchStrategy[str]:
    """Lines of several languages."""
    line = st.tuples(st.sampled_from(LINES), st.sampled_from(NAMES), st.sampled_from(NAMES))
    return st.lists(line.map(lambda drawn: drawn[0].format(*drawn[1:])), max_size=12).map("".join)


def encoded() -> st.SearchStrategy[str]:
    """base64 and hexadecimal digits of random bytes."""
    raw = st.binary(max_size=300)
    return raw.map(lambda found: base64.b64encode(found).decode()) | raw.map(bytes.hex)


def awkward() -> st.SearchStrategy[str]:
    """Very long words, runs of blanks, surrogates without their other half, what looks like a special token."""
    return st.one_of(
        st.tuples(st.sampled_from("aZ é漢٣0 \n-🙂"), st.integers(1, 900)).map(lambda pair: pair[0] * pair[1]),
        st.tuples(
            st.sampled_from(("ab", "don't", "٣٧", "\uff11\uff12", "  x", "ßẞ")), st.integers(1, 300)
        ).map(lambda pair: pair[0] * pair[1]),
        st.text(st.characters(categories=["Cs"]), min_size=1, max_size=20),
        st.text(st.characters(), max_size=80),
        st.sampled_from(("<|endoftext|>", "<|im_start|>user", "\ud83d", "\ufeffx", "\x00\x01", "ﷺ" * 40)),
    )


def anything() -> st.SearchStrategy[str]:
    """One of all that, or several of them after each other."""
    one = st.one_of(
        *(script(name, 60) for name in SCRIPTS),
        values().map(lambda value: json.dumps(value, ensure_ascii=False)),
        values().map(lambda value: json.dumps(value, indent=2)),
        code(),
        encoded(),
        awkward(),
    )
    return one | st.lists(one, min_size=2, max_size=4).map("".join)
