import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpprof.report.numbers import (
    UNKNOWN,
    bar,
    digits,
    encodable,
    format_change,
    format_number,
    format_percent,
    format_range,
    format_ratio,
    format_size,
    format_time,
    plain,
    printable,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (1.234e-9, "1.23 ns"),
        (41.23e-6, "41.2 µs"),
        (812.4e-6, "812 µs"),
        (999.4e-6, "999 µs"),
        (999.6e-6, "1.00 ms"),
        (0.0123, "12.3 ms"),
        (1.5, "1.50 s"),
        (12345.0, "12,300 s"),
        (None, UNKNOWN),
        (math.nan, UNKNOWN),
    ],
)
def test_a_time_has_three_digits_and_the_unit_that_fits(seconds, text):
    assert format_time(seconds) == text


@given(st.floats(1e-9, 1e6))
def test_a_time_reads_back_within_half_a_unit_of_its_third_digit(seconds):
    figure, unit = format_time(seconds).split()
    value = float(figure.replace(",", "")) * {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}[unit]
    assert value == pytest.approx(seconds, rel=0.0051)


@given(st.floats(1e-12, 1e12))
def test_three_digits_are_never_written_with_an_exponent(value):
    assert "e" not in digits(value)
    assert float(digits(value).replace(",", "")) == pytest.approx(value, rel=0.0051)


def test_an_interval_that_says_nothing_is_left_out():
    assert format_ratio(0.6734, 0.5, 0.9) == "0.673 (0.500–0.900)"
    assert format_ratio(0.6734, 1e-5, 4e4) == "about 0.673"


def test_a_range_is_in_one_unit():
    assert format_range(790e-6, 1.31e-3) == "0.79–1.31 ms"
    assert format_range(40e-6, 52.4e-6) == "40.0–52.4 µs"
    assert format_range(math.nan, 1.0) == UNKNOWN


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (1048575, "1.00 MiB"),
        (3 << 30, "3.00 GiB"),
        (None, UNKNOWN),
    ],
)
def test_bytes_are_in_binary_units(n_bytes, text):
    assert format_size(n_bytes) == text


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (1230, "1,230"), (2.5, "2.50"), (None, UNKNOWN)])
def test_counts_are_whole_where_they_can_be(value, text):
    assert format_number(value) == text


def test_shares_and_changes_are_in_percent():
    assert format_percent(0.4812) == "48.1 %"
    assert format_percent(math.nan) == UNKNOWN
    assert format_change(1.0234) == "+2.3 %"
    assert format_change(0.9) == "-10.0 %"
    assert format_change(0.99999) == "+0.0 %"
    assert format_change(None) == UNKNOWN


def test_a_bar_is_full_at_the_largest_value():
    assert bar(0.4, 0.4, 4) == "████"
    assert bar(0.2, 0.4, 4) == "██  "
    assert bar(0.05, 0.4, 4) == "▌   "
    assert bar(math.nan, 0.4, 4) == bar(0.1, 0.0, 4) == "    "


@given(st.floats(0, 1), st.integers(0, 40))
def test_a_bar_keeps_its_width(value, width):
    assert len(bar(value, 1.0, width)) == width


def test_escape_sequences_and_line_ends_in_a_name_do_no_harm():
    assert plain("a\n\tb \x1b[31mred\x07") == "a b �[31mred�"
    assert printable("  indented\x9b2J") == "  indented�2J"
    assert printable("right\u202eto left") == "right�to left"


@given(st.text())
def test_no_control_character_survives(text):
    assert all(c.isprintable() or c == "\u00a0" or not c.isascii() for c in printable(text))
    assert "\x1b" not in printable(text)


def test_what_an_encoding_lacks_gets_a_stand_in_of_the_same_width():
    assert encodable("48 µs – ██▌ ▏", "utf-8") == "48 µs – ██▌ ▏"
    assert encodable("48 µs – ██▌ ▏", "ascii") == "48 us - ###  "
    assert encodable("größe", "ascii") == "gr??e"
