"""Runs on disk: what is saved comes back exactly, and a file that is not a run is refused in one line."""

import errno
import hashlib
import json
import os
import random
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import assert_equal_records, make_run

from mlpprof.errors import RunFileError, UsageError
from mlpprof.results import CheckResult, LabelSamples, Operation, PhaseSamples, StreamRecord
from mlpprof.results import on_disk as store
from mlpprof.results.on_disk import BLOCK_SIZE, OF_VARIANTS, load_run, run_file_name, save_new_run, save_run, seal


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A stored run that tests copy and do not change."""
    run = make_run((32, 500), rounds=2, steps=3, lines=True, stacks=True, warnings=("first", "second"))
    return save_run(run, tmp_path_factory.mktemp("runs") / "run.h5")


@pytest.fixture
def copy(stored, tmp_path):
    return shutil.copyfile(stored, tmp_path / "copy.h5")


def refusal(path) -> str:
    """The message, which is one line that names the path."""
    with pytest.raises(RunFileError) as caught:
        load_run(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def names_in(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def with_result(run, **changes):
    return replace(run, results=(replace(run.results[0], **changes),))


def failed_check():
    return CheckResult("mine", False, float("nan"), 1e-10, None, "loss", None, "layer 2 is off by 3e-4 (at most 1e-10)")


RUNS = {
    "everything": lambda: make_run((1, 500, 20000), lines=True, stacks=True, warnings=("pinned", "zwölf µs")),
    "one step of one round": lambda: make_run(rounds=1, steps=1),
    "one neuron a layer": lambda: make_run(layers=(1, 1)),
    "phases fused": lambda: make_run(separable=False),
    "no labels": lambda: make_run(labelled=False),
    "neither phases nor labels": lambda: make_run(separable=False, labelled=False),
    "not checked": lambda: make_run(checked=False),
    "check failed with NaN": lambda: replace(make_run(), check=failed_check()),
    "check skipped": lambda: replace(make_run(), check=CheckResult("mine", None, skipped="needs numba")),
    "losses that diverge": lambda: with_result(make_run(), losses=np.array([1.0, np.inf, np.nan])),
    "threads left to the environment": lambda: replace(make_run(), threads=None, native_blas=True),
    "unlike any label": lambda: with_result(
        make_run(rounds=1, steps=2),
        labels=(
            LabelSamples("backward", -1, "größe [bold]µ/", np.array([[1e-300, 5e-324]]), 0),
            LabelSamples("", None, "", np.array([[0.1 + 0.2, 1 / 3]]), 2**40),
        ),
    ),
    "phases of its own with figures missing": lambda: with_result(
        make_run(rounds=1, steps=1),
        phases={
            "a/b": PhaseSamples(np.array([[1.0]]), None, 0.0, None),
            "c": PhaseSamples(np.array([[2.0]]), float("nan")),
        },
    ),
}


@pytest.mark.parametrize("make", RUNS.values(), ids=RUNS.keys())
def test_every_field_of_a_run_comes_back_exactly(tmp_path, make):
    run = make()
    assert_equal_records(load_run(save_run(run, tmp_path / "run.h5")), run)


any_text = st.text(st.characters(), max_size=30)
source_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
sizes = st.integers(1, 3)


@settings(max_examples=25, deadline=None)
@given(
    any_text, any_text, source_text, source_text, st.integers(1, 3), st.integers(1, 3), st.integers(-(2**63), 2**63 - 1)
)
def test_any_text_and_any_shape_comes_back(tmp_path_factory, name, text, source, label, rounds, steps, layer):
    run = make_run((1,), rounds=rounds, steps=steps, layers=(1, 1), warnings=(text,))
    labels = tuple(replace(x, label=label, phase=label, layer=layer) for x in run.results[0].labels)
    variant = replace(run.variant, name=name, summary=text, source=source)
    run = replace(with_result(run, labels=labels), variant=variant, command=text, machine={text: [text, None, 1.5]})
    assert_equal_records(load_run(save_run(run, tmp_path_factory.mktemp("run") / "run.h5")), run)


def test_how_a_stream_was_read_comes_back_exactly(tmp_path):
    stream = StreamRecord(14_266, 222, 784, rows=60_000, read_s=0.25, waited_s=0.01, rereads=1.5, disk_bytes_s=1e9)
    run = with_result(make_run((32,), rounds=2, steps=3), stream=stream)
    assert_equal_records(load_run(save_run(run, tmp_path / "run.h5")), run)


def test_numbers_of_numpy_become_plain_ones(tmp_path):
    run = make_run()
    check = replace(run.check, layer=np.int64(2), deviation=np.float32(0.5), ok=np.True_)
    loaded = load_run(save_run(replace(run, check=check, machine={"cpus": np.int64(4)}), tmp_path / "run.h5"))
    assert loaded.check == CheckResult(run.check.variant, True, 0.5, 1e-10, 2, run.check.what)
    assert loaded.machine == {"cpus": 4}


def test_the_file_begins_with_one_line_that_holds_the_digest_of_the_rest(stored):
    content = stored.read_bytes()
    line, rest = content[:BLOCK_SIZE], content[BLOCK_SIZE:]
    digest = hashlib.sha256(rest).hexdigest()
    expected = f"mlpprof-run schema={OF_VARIANTS} bytes={len(rest)} sha256={digest}\n".encode()
    assert line == expected.ljust(BLOCK_SIZE, b"\0")


def test_any_hdf5_tool_can_read_the_documented_layout(stored):
    documented = set(re.findall(r"^\| (\w[\w/]*) ", store.__doc__, re.MULTILINE)) - {"where"}
    documented |= {"results/I/phases_pass_s", "results/I/labels_pass_s"}
    with h5py.File(stored) as file:
        found = []
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
        assert file["results/1"].attrs["batch"] == 500
        assert file["results/1/total_s"].dtype == np.float64
        assert file["source"].asstr()[()].startswith('"""Derivatives')
    generic = {re.sub(r"phases/\d+", "phases/J", re.sub(r"results/\d+", "results/I", name)) for name in found}
    assert generic | {"results/I"} == documented


def write_hdf5(path: Path, **options: int) -> None:
    with h5py.File(path, "w", **options) as file:
        file["train_set_x"] = np.zeros((3, 2))


FOREIGN = {
    "nothing": (lambda path: None, "there is no file"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "an empty file": (lambda path: path.touch(), "is empty"),
    "a text": (lambda path: path.write_text("Dear diary,\x1b[31m\n"), "it begins with 'Dear diary,\\x1b[31m'"),
    "another program's HDF5": (write_hdf5, "HDF5 file but not a run"),
    "HDF5 with another program's block": (partial(write_hdf5, userblock_size=BLOCK_SIZE), "is not a run"),
    "a newer schema, whatever its block holds": (
        lambda path: path.write_bytes(b"mlpprof-run schema=4 and whatever it will hold".ljust(5000, b"?")),
        "has schema 4, of a newer mlpprof; 0.1.0 reads up to 3: pip install --upgrade mlpprof",
    ),
}


@pytest.mark.parametrize(("make", "reason"), FOREIGN.values(), ids=FOREIGN.keys())
def test_what_is_not_a_run_is_refused_with_the_reason(tmp_path, make, reason):
    make(tmp_path / "run.h5")
    assert reason in refusal(tmp_path / "run.h5")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refusal(tmp_path / "pipe")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_file_without_permission_is_refused_with_the_reason(copy):
    copy.chmod(0)
    assert "Permission denied" in refusal(copy)


@pytest.fixture
def h5py_stays_closed(monkeypatch):
    def fail(*_arguments, **_options):
        pytest.fail("h5py was given a file whose digest is wrong")

    monkeypatch.setattr(h5py, "File", fail)


def test_a_file_that_was_cut_off_is_refused_and_never_given_to_hdf5(copy, h5py_stays_closed):
    whole = copy.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, BLOCK_SIZE + 1, BLOCK_SIZE, BLOCK_SIZE - 1, 100, 60):
        copy.write_bytes(whole[:size])
        assert f"cut off after {size:,} bytes" in refusal(copy)
    for size in (30, 5):
        copy.write_bytes(whole[:size])
        refusal(copy)


def test_a_flipped_or_an_added_byte_is_found_and_the_file_never_given_to_hdf5(copy, h5py_stays_closed):
    content = copy.read_bytes()
    rng = random.Random(0)
    places = [*range(0, BLOCK_SIZE, 7), *range(130), len(content) - 1]
    places += [rng.randrange(BLOCK_SIZE, len(content)) for _ in range(60)]
    for place in places:
        flipped = content[place] ^ (1 << rng.randrange(8))
        copy.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
        refusal(copy)
    copy.write_bytes(content + b"\0")
    assert "does not match its digest" in refusal(copy)


OPERATION = Operation("forward", 1, "x", 1, "product", "dot", "float32", (2, 3, 4), "C·F", 1, 48, 48, 8, 8, 0, 0)


def change_json(name, change):
    def mutate(file):
        value = json.loads(file[name].asstr()[()])
        change(value)
        del file[name]
        file[name] = json.dumps(value)

    return mutate


def put(name, value):
    def mutate(file):
        del file[name]
        if value is not None:
            file[name] = value

    return mutate


def put_attribute(name, key, value):
    def mutate(file):
        file[name].attrs[key] = value

    return mutate


MALFORMED = {
    "no JSON": put("run", "{"),
    "JSON of another kind": put("run", "[1, 2]"),
    "JSON nested too deep": put("run", "[" * 100_000),
    "a number for a text": put("run", 7.0),
    "a group for a text": lambda file: (file.__delitem__("run"), file.create_group("run")),
    "a missing record": change_json("run", lambda run: run.pop("network")),
    "a missing field": change_json("run", lambda run: run["data"].pop("samples")),
    "a field of another type": change_json("run", lambda run: run.update(seed="zero")),
    "a truth for a number": change_json("run", lambda run: run.update(seed=True)),
    "a warning that is a number": change_json("run", lambda run: run.update(warnings=[3])),
    "a network that makes none": change_json("run", lambda run: run["network"].update(layers=[784])),
    "layers of words": change_json("run", lambda run: run["network"].update(layers=["a", "b"])),
    "no machine": put("machine", None),
    "a machine that is a list": put("machine", "[]"),
    "a cache without a level": change_json("machine", lambda machine: machine["cpu_caches"][0].pop("level")),
    "a limit below 0": change_json("run", lambda run: run["limits"].update(gemm={"value": -1, "unit": "GFLOP/s"})),
    "a machine nested too deep": put("machine", '{"a": ' * 200 + "1" + "}" * 200),
    "no source": put("source", None),
    "no results": put("results", None),
    "no batch size": lambda file: (file.__delitem__("results"), file.create_group("results")),
    "a gap in the batch sizes": put("results/0", None),
    "no batch": lambda file: file["results/0"].attrs.__delitem__("batch"),
    "a batch in words": put_attribute("results/0", "batch", "many"),
    "no total": put("results/0/total_s", None),
    "samples in one dimension": put("results/0/total_s", np.ones(6)),
    "samples in words": put("results/0/total_s", "fast"),
    "no samples": put("results/0/total_s", np.ones((0, 3))),
    "a sample that is infinite": put("results/0/total_s", np.full((2, 3), np.inf)),
    "a sample that is no number": put("results/0/phases_pass_s", np.full((2, 3), np.nan)),
    "a sample of a thousand years": put("results/0/total_s", np.full((2, 3), 3e10)),
    "a step that took no time": put("results/0/total_s", np.zeros((2, 3))),
    "a batch of no samples": put_attribute("results/0", "batch", 0),
    "a negative time under a label": put("results/0/label_step_s", -np.ones((16, 2, 3))),
    "rounds that differ": put("results/0/labels_pass_s", np.ones((5, 3))),
    "a phase of another shape": put("results/0/phases/0", np.ones((2, 7))),
    "a phase without a name": put("results/0/phases/0", np.ones((2, 3))),
    "fewer samples than labels": put("results/0/label_step_s", np.ones((1, 2, 3))),
    "a table without its columns": put("results/0/labels", np.ones(3)),
    "lines without columns": put("lines", np.ones(3)),
    "a line that took infinitely long": put_attribute("lines", "wall_s", np.inf),
    "infinite memory": put_attribute("results/0/phases/0", "peak_bytes", np.inf),
    "an operation of 400 digits": change_json(
        "results/0/counts", lambda counts: counts.update(operations=[vars(OPERATION) | {"flop": 10**400}])
    ),
    "lines without a batch": lambda file: file["lines"].attrs.__delitem__("batch"),
    "stacks that are no text": put("stacks", 1.0),
}


@pytest.mark.parametrize("mutate", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_content_with_a_right_digest_is_refused_in_one_line(copy, mutate):
    with h5py.File(copy, "r+") as file:
        mutate(file)
    copy.write_bytes(seal(copy.read_bytes(), OF_VARIANTS))
    assert "its content is not a run" in refusal(copy)


@pytest.mark.parametrize(
    ("error", "raised"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(errno.ENOSPC, "disk full"), UsageError)]
)
def test_a_run_that_cannot_be_finished_leaves_the_old_one_and_no_other_file(copy, monkeypatch, error, raised):
    before = copy.read_bytes()

    def fail(_group, _result):
        raise error

    monkeypatch.setattr(store, "_write_result", fail)
    with pytest.raises(raised):
        save_run(make_run(), copy)
    with pytest.raises(raised):
        save_new_run(make_run(), copy.parent)
    assert names_in(copy.parent) == [copy.name]
    assert copy.read_bytes() == before


SAVED_ON_A_FULL_DISK = """
import resource
import sys
from pathlib import Path

from runs import make_run

from mlpprof.errors import UsageError
from mlpprof.results.on_disk import save_new_run

resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    save_new_run(make_run(), Path(sys.argv[1]))
except UsageError as error:
    print(error)
"""


@pytest.mark.skipif(os.name != "posix", reason="limits of the size of files are of POSIX")
def test_a_full_disk_ends_neither_the_writing_nor_the_interpreter_in_a_crash(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SAVED_ON_A_FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "File too large" in done.stdout
    assert names_in(tmp_path) == []


def test_a_run_is_saved_under_its_name_and_never_over_another(tmp_path):
    run = make_run(rounds=1, steps=1)
    folder = tmp_path / "new" / "reports"
    names = [save_new_run(replace(run, seed=seed), folder).name for seed in range(3)]
    assert names == [f"20261121T003005Z-cached-digits{end}.h5" for end in ("", "-2", "-3")]
    assert names_in(folder) == sorted(names)
    assert [load_run(folder / name).seed for name in names] == [0, 1, 2]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write into"):
        save_new_run(make_run(), tmp_path / "file")


@pytest.mark.parametrize(
    ("variant", "part"),
    [
        ("cached", "cached"),
        ("peers/torch", "peers-torch"),
        ("./mine.py", "mine"),
        ("/home/me/nets/mine.py:Fast", "mine-Fast"),
        ("C:\\nets\\mine.py", "mine"),
        ("my.pytorch", "my.pytorch"),
        ("../..", "unnamed"),
        ("", "unnamed"),
        ("größe\n*?", "gr-e"),
        ("n" * 300, "n" * 60),
    ],
)
def test_a_file_name_has_no_character_that_a_system_refuses(variant, part):
    assert run_file_name(make_run(variant=variant)) == f"20261121T003005Z-{part}-digits.h5"


@pytest.mark.parametrize("created", ["2026-11-21T00:30:05+00:00", "2026-11-21T00:30:05", "2026-11-21T01:30:05+01:00"])
def test_a_file_name_holds_the_time_in_utc(created):
    assert run_file_name(replace(make_run(), created=created)).startswith("20261121T003005Z-")


@pytest.mark.skipif(os.name != "posix", reason="umask is of POSIX")
def test_the_mode_of_a_run_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        path = save_new_run(make_run(rounds=1, steps=1), tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
