"""Numbers as people read them: three significant digits, a fitting unit, and a dash for what is not known."""

from __future__ import annotations

import math
import unicodedata

UNKNOWN = "–"
"""The text of a figure that was not measured."""

NO_BREAK = "\N{NO-BREAK SPACE}"
"""It keeps words on one line while `textwrap` folds a text; afterwards a plain blank replaces it."""

MOST_SPREAD = 100.0
"""An interval whose ends differ by more than this factor is from too few measurements to be worth reading."""

_TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTE_UNITS = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))
_EIGHTHS = " ▏▎▍▌▋▊▉"
_TO_ASCII = str.maketrans(
    {
        "–": "-",
        "—": "-",
        "−": "-",
        "·": "-",
        "…": ".",
        "µ": "u",
        "×": "x",
        "⋮": ":",
        "▒": "=",
        "→": ">",
        "†": "+",
        "│": "|",
        "─": "-",
        "├": "|",
        "└": "`",
    }
    | dict.fromkeys("█▉▊▋▌", "#")
    | dict.fromkeys("▍▎▏", " ")
)


def digits(value: float) -> str:
    """Three significant digits without an exponent: '0.0123', '1.23', '123', '1,230'; small whole numbers as such."""
    if not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")
    decimals = max(0, 2 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}"


def format_time(seconds: float | None) -> str:
    """Seconds in ns, µs, ms or s: '812 µs'."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    scale, unit = _time_unit(seconds)
    return f"{digits(seconds / scale)} {unit}"


def format_range(low_s: float, high_s: float) -> str:
    """A range in one unit, that of its upper end: '0.79–1.31 ms'."""
    if not (math.isfinite(low_s) and math.isfinite(high_s)):
        return UNKNOWN
    scale, unit = _time_unit(high_s)
    # 9.996 reads as 10.0
    decimals = max(0, 2 - math.floor(math.log10(float(f"{high_s / scale:.3g}")))) if high_s > 0 else 0
    return f"{low_s / scale:.{decimals}f}{_joint(low_s)}{high_s / scale:.{decimals}f} {unit}"


def format_payoff(low_s: float, high_s: float) -> str:
    """A range of times, as one where both ends read the same: '0.79–1.31 ms', '1.20 ms'."""
    low, high = format_time(low_s), format_time(high_s)
    return high if low == high or high_s <= 0 else format_range(low_s, high_s)


def format_shares(low: float, high: float) -> str:
    """A range of shares, to a tenth of a percent where it is small: '10–12 %', '0.8–1.1 %'."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return UNKNOWN
    decimals = 0 if 100 * high >= 9.95 else 1
    first, last = (f"{100 * share:.{decimals}f}" for share in (low, high))
    return f"{last} %" if first == last else f"{first}{_joint(low)}{last} %"


def _joint(low: float) -> str:
    """What stands between the ends of a range; a dash would read as one more minus sign."""
    return "–" if low >= 0 else " to "


def _time_unit(seconds: float) -> tuple[float, str]:
    rounded = abs(float(f"{seconds:.3g}"))  # 999.9 µs reads as 1.00 ms
    for scale, unit in _TIME_UNITS:
        if rounded >= scale:
            return scale, unit
    return _TIME_UNITS[-1] if rounded > 0 else _TIME_UNITS[0]


def format_size(n_bytes: float | None) -> str:
    """Bytes in B, KiB, MiB ...: '1.50 KiB'."""
    if n_bytes is None or not math.isfinite(n_bytes):
        return UNKNOWN
    for scale, unit in _BYTE_UNITS:
        if float(f"{n_bytes / scale:.3g}") >= 1:
            return f"{digits(n_bytes / scale)} {unit}"
    return f"{n_bytes:.0f} B"


def format_number(value: float | None) -> str:
    """A count or a mean of counts: '1,230', '2.50', and '0' where there was nothing."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.0f}" if float(value).is_integer() else digits(value)


def format_percent(share: float | None) -> str:
    """A share of 0 to 1 with one decimal: '48.1 %'."""
    return UNKNOWN if share is None or not math.isfinite(share) else f"{100 * share:.1f} %"


def signed_time(seconds: float) -> str:
    """'+180 µs'."""
    return f"{'+' if seconds > 0 else '-'}{format_time(abs(seconds))}"


def interval_text(low_s: float | None, high_s: float | None) -> str:
    """'+180 µs to +220 µs'; "" where there is no interval."""
    return "" if low_s is None or high_s is None else f"{signed_time(low_s)} to {signed_time(high_s)}"


def format_ratio(ratio: float, low: float, high: float) -> str:
    """A ratio with its interval, '1.19 (1.15–1.24)', or 'about 1.19' where too little was measured for an interval."""
    if high > MOST_SPREAD * low:
        return f"about {digits(ratio)}"
    return f"{digits(ratio)} ({digits(low)}–{digits(high)})"


def format_change(ratio: float | None) -> str:
    """A ratio as its distance from 1: '+2.3 %'."""
    if ratio is None or not math.isfinite(ratio):
        return UNKNOWN
    return f"{round(100 * (ratio - 1), 1) + 0.0:+.1f} %"  # + 0.0 turns -0.0 into 0.0


def bar(value: float, largest: float, width: int) -> str:
    """A bar of block characters, `width` of them at the largest value, to an eighth of a character."""
    if not math.isfinite(value) or largest <= 0:
        return " " * width
    full, rest = divmod(round(min(max(value / largest, 0.0), 1.0) * width * 8), 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def span_bar(begin: float, end: float, width: int, *, hatched: bool = False) -> str:
    """A bar from begin to end, shares of a width in characters; at least a thin line where the two differ."""
    if begin <= 0 and not hatched:
        return bar(end, 1.0, width).rstrip()
    first, last = round(begin * width), round(end * width)
    if first == last:
        return " " * min(first, width - 1) + ("▏" if end - begin >= 0.001 else "")
    return " " * first + ("▒" if hatched else "█") * (last - first)


def of_layer(label: str, layer: int | None) -> str:
    """A user's label on one line: 'derivative of layer 1', or 'gather' where it is in no loop over layers."""
    return plain(label) + ("" if layer is None else f" of layer {layer}")


def plain(text: str) -> str:
    """A user's text on one line: white space becomes single blanks, other control characters a visible mark.

    Names, docstrings and sources come from other people's files; an escape sequence in them would reach the terminal.
    """
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """The text with every control or invisible formatting character replaced by '�'; blanks and indents stay."""
    return "".join("�" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)


def encodable(text: str, encoding: str) -> str:
    """The text in characters that `encoding` has, one for one, so that columns stay aligned."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_TO_ASCII).encode(encoding, "replace").decode(encoding)
    return text
