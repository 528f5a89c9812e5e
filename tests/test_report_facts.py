"""The facts of a run, in words."""

from __future__ import annotations

from dataclasses import replace

from runs import make_run

from mlpprof.report.facts import run_facts, stream_text
from mlpprof.report.json_documents import profile_json
from mlpprof.results import StreamRecord

STREAM = StreamRecord(part_rows=14_266, run_rows=222, row_bytes=784, rows=10_000, read_s=0.01, waited_s=0.0005)


def test_a_stream_shows_what_reading_took_in_a_step_and_how_much_of_it_was_hidden():
    style, text = stream_text(replace(STREAM, disk_bytes_s=784e6), batch=500)
    assert style == ""
    assert text == (
        "from the file while training, in runs of 222 rows; 14,266 rows are shuffled together; 500 µs a step of 500, "
        "95.0 % of it hidden behind the steps; the disk gives a batch in 500 µs"
    )


def test_a_stream_that_the_steps_had_to_wait_for_is_a_warning_and_chunks_that_fit_badly_have_a_cure():
    style, text = stream_text(replace(STREAM, waited_s=0.02, rereads=4.6), batch=500)
    assert style == "warning"
    assert "0 % of it hidden" in text
    assert "every chunk is read 4.6 times in an epoch" in text
    assert "mlpprof data repack" in text


def test_only_a_run_from_a_stream_has_the_fact_and_its_figures():
    run = make_run((500,))
    streamed = replace(run, results=(replace(run.results[0], stream=STREAM),))
    assert [name for name, _, _ in run_facts(streamed)].count("reading") == 1
    assert "reading" not in [name for name, _, _ in run_facts(run)]
    assert profile_json(streamed)["results"][0]["stream"]["hidden_share"] == 0.95
    assert "stream" not in profile_json(run)["results"][0]


def test_a_stream_of_which_nothing_was_timed_yet_has_no_share():
    assert "hidden" not in stream_text(replace(STREAM, rows=0, read_s=0.0), batch=500)[1]
