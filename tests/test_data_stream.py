"""Training from a file: the order of the rows, the thread that reads them ahead, and what it does if that fails."""

from __future__ import annotations

import gc
import gzip
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from data_files import write_idx
from hypothesis import given
from hypothesis import strategies as st

from mlpprof.data import DataFacts, DataSource, Stream, StreamedSet, load, load_stream
from mlpprof.data.reading_order import BATCHES, PARTS, Plan, part_rows_for
from mlpprof.data.stored_rows import StoredRows
from mlpprof.errors import DataError

ROWS = 57
PART = 20


def pixels(rows: int = ROWS) -> np.ndarray:
    """Rows that differ from each other, of which the first has the number 0 in its first column, and so on."""
    X = np.random.default_rng(0).integers(0, 256, (rows, 6)).astype(np.uint8)
    X[:, 0] = np.arange(rows)
    return X


def labels(rows: int = ROWS) -> np.ndarray:
    return np.arange(rows) % 3


def write_hdf5(path: Path, X: np.ndarray, Y: np.ndarray | None = None, **layout: Any) -> Path:
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("X", data=X, **layout)
        file["Y"] = labels(len(X)) if Y is None else Y
    return path


def opened(path: Path, part_rows: int = PART) -> StreamedSet:
    return load_stream(DataSource(path=str(path), part_rows=part_rows))


def epoch(stream: Stream, m: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of as many batches as an epoch has, from the first one on, copied as they come."""
    pairs = [(stream.X[index], stream.Y[index]) for index in islice(stream.walk(m), stream.data.samples // m)]
    X, Y = (np.concatenate(part) for part in zip(*pairs, strict=True))
    return X, Y


def in_order(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    rows = np.hstack((X, Y))
    return rows[np.lexsort(rows.T)]


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "reads ahead"]


FILES = {
    "contiguous": lambda folder: write_hdf5(folder / "a.h5", pixels()),
    "chunked": lambda folder: write_hdf5(folder / "a.h5", pixels(), chunks=(4, 6)),
    "chunks that fit badly": lambda folder: write_hdf5(folder / "a.h5", pixels(), chunks=(50, 1)),
    "gzip": lambda folder: write_hdf5(folder / "a.h5", pixels(), chunks=(8, 6), compression="gzip", shuffle=True),
    "images": lambda folder: write_hdf5(folder / "a.h5", pixels().reshape(ROWS, 2, 3)),
    "flags": lambda folder: write_hdf5(folder / "a.h5", pixels() % np.uint8(2)),
    "float64": lambda folder: write_hdf5(folder / "a.h5", pixels() / 7.0),
    "float32": lambda folder: write_hdf5(folder / "a.h5", (pixels() / 7.0).astype(np.float32)),
    "big-endian": lambda folder: write_hdf5(folder / "a.h5", pixels().astype(">i2")),
    "targets": lambda folder: write_hdf5(folder / "a.h5", pixels(), pixels()[:, :3] / 9.0),
    "npz": lambda folder: np.savez(folder / "a.npz", X=pixels(), Y=labels()) or folder / "a.npz",
    "npy": lambda folder: (
        np.save(folder / "Y.npy", labels()) or np.save(folder / "X.npy", pixels()) or folder / "X.npy"
    ),
    "IDX": lambda folder: write_idx_pair(folder),
}


def write_idx_pair(folder: Path) -> Path:
    write_idx(folder / "train-labels-idx1-ubyte", labels().astype(np.uint8))
    return write_idx(folder / "train-images-idx3-ubyte", pixels().reshape(ROWS, 2, 3))


@pytest.mark.parametrize("kind", FILES)
def test_an_epoch_from_any_file_has_each_row_of_the_set_in_memory_once(tmp_path, kind):
    path = FILES[kind](tmp_path)
    whole = load(DataSource(path=str(path)))
    with Stream(opened(path), 3, np.float32, seed=1) as stream:
        found = epoch(stream, 3)
    assert np.array_equal(in_order(*found), in_order(*whole.arrays(3, np.float32)))


def test_the_name_the_sizes_the_fingerprint_and_the_first_rows_are_those_of_the_set_in_memory(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", pixels(), chunks=(10, 6))
    ours, whole = opened(path), load(DataSource(path=str(path)))
    assert (ours.name, ours.samples, ours.features) == (whole.name, whole.samples, whole.features)
    assert ours.fingerprint() == whole.fingerprint()
    for head, array in zip(ours.head(5, 3, np.float64), whole.arrays(3, np.float64), strict=True):
        assert np.array_equal(head, array[:5])


plans = st.builds(
    Plan, st.integers(1, 200), st.integers(1, 30), st.integers(1, 60), st.integers(0, 2**32), st.integers(1, 4)
)


@given(plans, st.integers(0, 2))
def test_the_parts_of_every_epoch_have_each_row_once_and_fit_into_their_place_in_the_window(plan, epoch):
    plan = replace(plan, part_rows=max(plan.part_rows, plan.run_rows))
    parts = range(epoch * plan.parts, (epoch + 1) * plan.parts)
    numbers = [plan.numbers(part) for part in parts]
    assert sorted(np.concatenate(numbers).tolist()) == list(range(plan.rows))
    for part, rows in zip(parts, numbers, strict=True):
        assert plan.smallest_part <= len(rows) <= plan.part_rows
        assert sorted(plan.order(part).tolist()) == list(range(plan.base(part), plan.base(part) + len(rows)))


@given(plans, st.integers(0, 2))
def test_each_process_finds_its_rows_of_a_batch_in_its_own_share_of_the_part(plan, epoch):
    plan = replace(plan, part_rows=max(plan.part_rows, plan.run_rows))
    parts = range(epoch * plan.parts, (epoch + 1) * plan.parts)
    shares = np.concatenate(
        [
            [
                next(one for one in range(plan.shares) if place - plan.base(part) in plan.places(part, one))
                for place in plan.order(part).tolist()
            ]
            for part in parts
        ]
    )
    assert shares.tolist() == [position % plan.shares for position in range(plan.rows)]


def test_processes_that_read_their_shares_have_together_what_one_reads_alone(tmp_path):
    data = opened(write_hdf5(tmp_path / "a.h5", pixels(), chunks=(9, 6)))
    with (
        Stream(data, 3, np.float32, 0, shares=2) as whole,
        Stream(data, 3, np.float32, 0, 2, share=0) as leader,
        Stream(data, 3, np.float32, 0, 2, share=1) as follower,
    ):
        for number, (index, same) in enumerate(zip(whole.walk(6), islice(leader.walk(6), 40), strict=False)):
            assert np.array_equal(index, same)
            follower.hold(leader.part)
            for share, stream in enumerate((leader, follower)):
                mine = index[share::2]
                assert np.array_equal(stream.X[mine], whole.X[mine])
                assert np.array_equal(stream.Y[mine], whole.Y[mine])
            if number == 0:
                assert np.isnan(follower.X[index[::2]]).all()


def test_the_order_follows_from_the_seed_and_is_another_one_in_each_epoch(tmp_path):
    data = opened(write_hdf5(tmp_path / "a.h5", pixels()))

    def rows_of(seed: int) -> list[np.ndarray]:
        with Stream(data, 3, np.float32, seed) as stream:
            walk = stream.walk(19)
            return [stream.X[next(walk)] for _ in range(2 * ROWS // 19)]

    first, again, other = rows_of(1), rows_of(1), rows_of(2)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    half = len(first) // 2
    assert not np.array_equal(first[:half], first[half:])


def test_a_new_walk_begins_again(tmp_path):
    with Stream(opened(write_hdf5(tmp_path / "a.h5", pixels())), 3, np.float32, 0) as stream:
        first, second = epoch(stream, 5), epoch(stream, 5)
    assert np.array_equal(first[0], second[0])


def test_as_many_batches_as_may_be_drawn_together_are_not_replaced_meanwhile(tmp_path):
    with Stream(opened(write_hdf5(tmp_path / "a.h5", pixels())), 3, np.float32, 0) as stream:
        together = stream.together(3)
        assert together > 2
        walk = stream.walk(3)
        for _ in range(20):
            drawn = list(islice(walk, together))
            before = [stream.X[index] for index in drawn]
            time.sleep(0.002)  # the thread could replace them now
            assert all(np.array_equal(stream.X[index], rows) for index, rows in zip(drawn, before, strict=True))


def test_a_set_smaller_than_the_window_is_one_part_which_is_shuffled_as_a_whole(tmp_path):
    data = opened(write_hdf5(tmp_path / "a.h5", pixels()), part_rows_for(DataFacts(ROWS, 0, 6, 3), batch=10))
    with Stream(data, 3, np.float32, 0) as stream:
        assert stream.plan.parts == 1
        assert len(stream.X) == PARTS * ROWS
        assert sorted(epoch(stream, 19)[0][:, 0].tolist()) == sorted((pixels()[:, 0] / np.float32(255)).tolist())


def test_a_part_holds_several_batches_and_no_more_than_the_window_has_room_for():
    facts = DataFacts(samples=1_000_000, test_samples=0, features=1_000, classes=2)
    assert part_rows_for(facts, batch=10, window_bytes=1_200_000) == 100
    assert part_rows_for(facts, batch=500, window_bytes=1_200_000) == BATCHES * 500


def noting(data: StreamedSet, read: list[int]) -> StreamedSet:
    """The same set, which notes the first row of all that is read."""

    @contextmanager
    def opener(name: str) -> Iterator[StoredRows]:
        with data.container.opener(name) as rows:
            yield replace(rows, read=lambda start, stop: read.append(start) or rows.read(start, stop))

    return replace(data, container=replace(data.container, opener=opener))


def test_the_thread_reads_as_far_ahead_as_the_window_has_room_and_no_further(tmp_path):
    data = opened(write_hdf5(tmp_path / "a.h5", pixels() / 7.0, chunks=(4, 6)))
    read: list[int] = []
    with Stream(noting(data, read), 3, np.float32, 0) as stream:
        stream.take(3)
        wanted = sum(len(stream.plan.starts(part)) for part in range(PARTS))
        deadline = time.monotonic() + 10
        while len(read) < wanted and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)
        assert len(read) == wanted


def test_a_window_that_opens_in_mid_flow_reads_from_there_and_finds_later_what_it_has_left_out(tmp_path):
    X = pixels() / 7.0
    X[41, 2] = np.nan
    data = opened(write_hdf5(tmp_path / "a.h5", X, chunks=(4, 6)))
    read: list[int] = []
    with Stream(noting(data, read), 3, np.float32, 0) as stream:
        has_it = [41 in stream.plan.numbers(part) for part in range(50)]
        first = next(part for part in range(4, 40) if has_it[part : part + 4] == [False, False, False, True])
        stream.hold(first + 1)
        assert set(read[: len(stream.plan.starts(first))]) == set(stream.plan.starts(first).tolist())
        with pytest.raises(DataError, match="row 41, column 2"):
            stream.hold(first + 2)
            stream.hold(first + 3)


def test_the_thread_ends_when_the_stream_is_closed_and_when_nobody_keeps_it(tmp_path):
    data = opened(write_hdf5(tmp_path / "a.h5", pixels()))
    stream = Stream(data, 3, np.float32, 0)
    stream.take(3)
    assert len(reading_threads()) == 1
    stream.close()
    assert not reading_threads()
    with pytest.raises(DataError, match="closed"):
        list(islice(stream.walk(20), 9))
    stream = Stream(data, 3, np.float32, 0)
    stream.take(3)
    (thread,) = reading_threads()
    del stream
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


def test_the_thread_ends_at_a_ctrl_c_of_the_training(tmp_path):
    data = opened(write_hdf5(tmp_path / "a.h5", pixels()))
    with pytest.raises(KeyboardInterrupt), Stream(data, 3, np.float32, 0) as stream:
        for _ in stream.walk(3):
            raise KeyboardInterrupt
    assert not reading_threads()


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", pixels())
    with Stream(opened(path), 3, np.float32, 0) as stream:
        stream.take(3)
        os.utime(path, ns=(0, 1))
        with pytest.raises(DataError, match=r"a\.h5 has changed while it was read.*run the command again"):
            list(islice(stream.walk(20), 20))
        assert not [thread for thread in reading_threads() if thread.join(10) or thread.is_alive()]


def test_a_file_that_is_cut_off_while_it_is_read_is_refused(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", pixels())
    with Stream(opened(path), 3, np.float32, 0) as stream:
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(DataError, match="'X' cannot be read: "):
            stream.take(3)
        with pytest.raises(DataError, match="'X' cannot be read: "):
            stream.take(3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_value_that_is_not_finite_is_refused_with_its_place(tmp_path, value):
    X = pixels() / 7.0
    X[41, 2] = value
    expected = (
        r"in row 41, column 2; expected finite" if not np.isfinite(value) else r"row 41: X has 1e\+300 .*too large"
    )
    with (
        Stream(opened(write_hdf5(tmp_path / "a.h5", X)), 3, np.float32, 0) as stream,
        pytest.raises(DataError, match=expected),
    ):
        list(islice(stream.walk(19), 3))


def test_large_numbers_whose_squares_overflow_are_not_refused(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", np.full((ROWS, 6), 1e30, np.float32))
    with Stream(opened(path), 3, np.float32, 0) as stream:
        assert epoch(stream, 19)[0].min() == np.float32(1e30)


def test_rows_that_can_only_be_read_in_their_order_are_refused_with_what_to_type(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", X=pixels(), Y=labels())
    write_idx_pair(tmp_path)
    images = tmp_path / "train-images-idx3-ubyte"
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images.read_bytes()))
    images.unlink()
    np.save(tmp_path / "X.npy", np.asfortranarray(pixels()))
    np.save(tmp_path / "Y.npy", labels())
    for name in ("a.npz", "train-images-idx3-ubyte.gz", "X.npy"):
        with pytest.raises(
            DataError, match=rf"only after all rows before it; .*mlpprof data repack .*{name} -o NEW\.h5"
        ):
            opened(tmp_path / name)


def test_samples_that_are_no_numbers_are_refused(tmp_path):
    path = write_hdf5(tmp_path / "a.h5", np.array([b"a", b"b"]), labels(2))
    with pytest.raises(DataError, match="'X' cannot be used: dtype .*expected numbers"):
        opened(path)


def test_labels_that_the_network_has_no_output_for_are_refused_before_anything_is_read(tmp_path):
    data = opened(write_hdf5(tmp_path / "a.h5", pixels()))
    with pytest.raises(DataError, match="label 2 in row 2; a network with 2 outputs"):
        Stream(data, 2, np.float32, 0)


def test_the_record_says_how_much_of_reading_was_hidden_and_the_batches_are_charged_the_rest(tmp_path):
    data = opened(write_hdf5(tmp_path / "a.h5", pixels(), chunks=(16, 6)))
    with Stream(data, 3, np.float32, 0) as stream:
        before = stream.charged_s
        rows = sum(len(index) for index in islice(stream.walk(19), 30))
        assert stream.charged_s > before
        record = stream.record()
    assert 0 < record.rows <= rows
    assert record.read_s > 0
    assert 0 <= record.hidden_share <= 1
    assert (record.run_rows, record.part_rows, record.rereads) == (PART // 8, PART, 16 / (PART // 8))
    assert replace(record, disk_bytes_s=600.0).disk_rows_s == 100
