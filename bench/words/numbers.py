"""How numbers, names and foreign text are written in the report and on the terminal.

Every string that comes from data passes `clean` once: control and bidirectional-override characters cannot be
drawn by an SVG or a terminal, and could make text look like something it is not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

MISSING = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"
MINUS = "\N{MINUS SIGN}"
_UNDRAWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters but newline and tab, lone surrogates, and what turns the direction of a text."""


def clean(text: str) -> str:
    """`text` with every character that has no glyph of its own made visible as U+FFFD; newlines and tabs are kept."""
    return _UNDRAWN.sub("\N{REPLACEMENT CHARACTER}", text)


def precision_name(precision: str) -> str:
    """FP32, INT8 ... in capitals as the literature writes them; any other precision as it is."""
    return precision.upper() if re.fullmatch(r"(fp|tf|bf|int|w)\d+(a\d+)?", precision) else precision


def number(value: float | None, digits: int, *, sign: bool = False) -> str:
    """`value` with `digits` decimals, a true minus sign and thin-space thousands; an en dash when there is none."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS).replace(",", "\N{NARROW NO-BREAK SPACE}")


def times(value: float | None) -> str:
    """A ratio as `1.79` and a multiplication sign."""
    return MISSING if value is None else number(value, 2) + TIMES


def size(value: float | None) -> str:
    """Bytes as `3.10 MB`, in megabytes of 10^6 bytes and three significant figures."""
    return f"{significant(megabytes(value))}\N{NO-BREAK SPACE}MB"


def significant(value: float | None, figures: int = 3) -> str:
    """`value` with about `figures` significant figures and no exponent between 0.001 and 100 000."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -3 or exponent > 4:
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e").replace("-", MINUS)
    return number(value, max(0, figures - 1 - exponent))


def interval(low: float | None, high: float | None, digits: int, *, sign: bool = False) -> str:
    """`[low, high]`; empty when either end is missing."""
    if low is None or high is None:
        return ""
    # A no-break space: an interval is one figure and is never split over two lines.
    return f"[{number(low, digits, sign=sign)},\N{NO-BREAK SPACE}{number(high, digits, sign=sign)}]"


def megabytes(value: float | None) -> float | None:
    """Bytes as megabytes of 10^6 bytes."""
    return None if value is None else value / 1e6


def gigabytes(told: str) -> str:
    """Bytes, as a fact of a machine tells them, in gigabytes of 10^9 bytes; empty where it tells none."""
    return number(int(told) / 1e9, 0) if told.isdecimal() else ""


def shortened(text: str, most: int = 36) -> str:
    """`text` on one line, cut to `most` characters with an ellipsis; for places whose room is fixed."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def count(n: int, singular: str, plural: str | None = None) -> str:
    """`1 cell`, `2 cells`."""
    return f"{number(n, 0)} {singular if n == 1 else plural or singular + 's'}"


def listing(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""
