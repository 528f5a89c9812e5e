import io
import json
import shlex

import click
import h5py
import numpy as np
import pytest
from data_files import write_mnist
from rich.console import Console

from mlpprof.cli import data as cli_data
from mlpprof.cli.main import run
from mlpprof.data import DataSource
from mlpprof.data.show import describe


@pytest.fixture
def show(capsys):
    """A function that runs `mlpprof data show ...` and returns exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = run(["data", "show", *map(str, arguments)])
        return code, *capsys.readouterr()

    return call


def test_the_commands_are_a_click_group_called_data():
    assert isinstance(cli_data.command, click.Group)
    assert sorted(cli_data.command.commands) == ["fetch", "repack", "show"]


def test_show_shows_arrays_sizes_classes_and_the_line_to_go_on_with(show, tmp_path):
    code, out, err = show(write_mnist(tmp_path))
    assert (code, err) == (0, "")
    assert "train_images  X        12 x 5 x 4  uint8" in out
    assert "12 training and 4 test samples of 20 features (5x4)" in out
    assert "divided by 255" in out
    assert out.splitlines()[-1] == shlex.join(
        ["mlpprof", "profile", "cached", "--data", str(tmp_path), "--layers", "20-70-30-3"]
    )


def test_show_draws_dark_and_light_pixels(show, tmp_path):
    images = np.zeros((2, 4, 6), np.uint8)
    images[0, :, 3:] = 255
    np.savez(tmp_path / "d.npz", X=images, Y=np.array([0, 1]))
    _, out, _ = show(tmp_path / "d.npz")
    pictures = out[out.index("class 0") :].splitlines()
    assert pictures[0].split() == ["class", "0", "class", "1"]
    assert [line.rstrip() for line in pictures[1:3]] == ["   ███", "   ███"]


def test_pictures_are_coloured_half_blocks_where_the_terminal_can():
    picture = np.array([[[255, 0, 0]], [[0, 0, 255]]], np.uint8)
    console = Console(force_terminal=True, color_system="truecolor", file=None)
    (line,) = cli_data._half_blocks(picture, console)
    assert line.plain == "▀"
    assert line.spans[0].style == "rgb(255,0,0) on rgb(0,0,255)"


def test_real_targets_come_with_the_options_that_they_need(show, tmp_path):
    np.savez(tmp_path / "d.npz", pixels=np.zeros((3, 2)), prices=np.array([0.5, 3.25, 9.0]))
    code, out, _ = show(tmp_path / "d.npz", "--x", "pixels", "--y", "prices")
    assert code == 0
    line = out.splitlines()[-1]
    assert line.endswith("--x pixels --y prices --layers 2-70-30-1 --output identity --loss squared_error")


def test_the_line_to_go_on_with_is_quoted_for_the_shell(show, tmp_path):
    path = tmp_path / "my data.npz"
    np.savez(path, X=np.zeros((3, 2)), Y=np.arange(3))
    _, out, _ = show(path)
    assert shlex.split(out.splitlines()[-1])[4] == str(path)


def test_unknown_arrays_are_listed_and_the_error_says_how_to_name_them(show, tmp_path):
    np.savez(tmp_path / "d.npz", pixels=np.array([[1.5, -2.0]]), answers=np.array([0]))
    code, out, err = show(tmp_path / "d.npz")
    assert code == 2
    assert "pixels" in out
    assert "-2" in out
    assert "1.5" in out
    assert "name them with --x and --y" in err
    assert err.count("\n") == 1


def test_nan_is_counted_in_the_table_and_located_in_the_error(show, tmp_path):
    np.savez(tmp_path / "d.npz", X=np.array([[1.0, np.nan], [np.inf, 2.0]]), Y=np.array([0, 1]))
    code, out, err = show(tmp_path / "d.npz")
    assert code == 2
    assert out.splitlines()[2].split()[:9] == ["X", "X", "2", "x", "2", "float64", "1", "2", "2"]
    assert "nan in row 0, column 1 (2 values are not finite)" in err


def test_what_cannot_be_read_is_listed_with_the_reason(show, tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["X"], file["Y"], file["names"] = np.zeros((3, 2)), np.arange(3), ["a", "b", "c"]
        file["away"] = h5py.ExternalLink("other.h5", "X")
    code, out, _ = show(tmp_path / "d.h5")
    assert code == 0
    assert "link to another file" in " ".join(out.split())
    assert "dtype object" in " ".join(out.split())


def test_markup_and_escapes_in_names_are_shown_as_they_are(show, tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["[red]X[nosuch]"] = np.zeros((3, 2))
        file["\x1b[31m"] = np.zeros(3)
    code, out, err = show(tmp_path / "d.h5")
    assert code == 2
    assert "[red]X[nosuch]" in out
    assert "\x1b" not in out + err


def test_output_keeps_to_an_encoding_without_accents(tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["größe"], file["X"], file["Y"] = np.zeros(2), np.full((3, 4, 4), 9), np.arange(3)
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    description = describe(DataSource(path=str(tmp_path / "d.h5")))
    cli_data._print(description, Console(file=ascii_only, width=100))
    ascii_only.seek(0)
    assert "gr??e" in ascii_only.read()


def test_json_holds_the_same_for_machines(show, tmp_path):
    code, out, err = show(write_mnist(tmp_path), "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert (document["schema"], document["kind"]) == (1, "IDX")
    assert (document["samples"], document["test_samples"], document["features"]) == (12, 4, 20)
    assert document["classes"][1] == {"label": 1, "samples": 4, "test_samples": 1}
    assert document["arrays"][0]["high"] == 239
    assert document["next"].startswith("mlpprof profile cached --data ")
    assert len(document["sha256"]) == 64


def test_json_of_an_unusable_file_holds_the_problem(show, tmp_path):
    np.savez(tmp_path / "d.npz", X=np.array([[np.nan]]), Y=np.array([0]))
    code, out, err = show(tmp_path / "d.npz", "--json")
    document = json.loads(out)
    assert code == 2
    assert document["arrays"][0]["not_finite"] == 1
    assert document["arrays"][0]["low"] is None
    assert document["problem"] in err


def test_embedded_sets_can_be_shown(show):
    code, out, _ = show("tiny")
    assert code == 0
    assert out.startswith("tiny: embedded\n")
    assert out.splitlines()[-1] == "mlpprof profile cached --data tiny --layers 20-70-30-3"


def test_a_missing_file_is_one_line_on_standard_error(show):
    code, out, err = show("digts")
    assert (code, out) == (2, "")
    assert err.startswith("mlpprof: there is no data file or embedded set 'digts'; did you mean 'digits'?")
    assert err.count("\n") == 1


def test_fetch_puts_the_line_to_go_on_with_on_standard_output(tmp_path, monkeypatch, capsys):
    asked = []

    def pretend(url, folder, report):
        report("train-images-idx3-ubyte.gz", 0.5)
        asked.append((url, folder))
        return write_mnist(folder)

    monkeypatch.setattr(cli_data, "fetch_mnist", pretend)
    assert run(["data", "fetch", "--url", "http://example.org/mnist", "--to", str(tmp_path)]) == 0
    out, _ = capsys.readouterr()
    assert asked == [("http://example.org/mnist", tmp_path)]
    assert shlex.split(out) == shlex.split(f"mlpprof profile cached --data {tmp_path} --layers 20-70-30-3")


def test_fetch_needs_an_address(capsys):
    assert run(["data", "fetch"]) == 2
    assert "--url" in capsys.readouterr().err


def test_the_real_cats_are_shown_with_what_to_profile(show, shared_data):
    code, out, _ = show(shared_data / "train_catvnoncat.h5")
    assert code == 0
    assert "209 training and 50 test samples of 12,288 features (64x64x3)" in out
    assert out.splitlines()[-1].endswith("train_catvnoncat.h5 --layers 12288-70-30-1")
