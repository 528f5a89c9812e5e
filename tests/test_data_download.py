import functools
import hashlib
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from data_files import write_mnist

from mlpprof.data import DataSource, download, load
from mlpprof.data.download import MNIST_MD5, fetch_mnist
from mlpprof.errors import DataError, MissingExtra, UsageError


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path_factory, monkeypatch) -> Iterator[tuple[str, Path]]:
    """A server on this machine: its address and the folder that it serves."""
    pytest.importorskip("pooch")
    folder = tmp_path_factory.mktemp("served")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", folder
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def publish(folder: Path, monkeypatch) -> None:
    """Small files of MNIST's names with sums to match."""
    write_mnist(folder, suffix=".gz")
    sums = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in MNIST_MD5}
    monkeypatch.setattr(download, "MNIST_MD5", sums)


def test_the_four_files_arrive_and_load(served, tmp_path, monkeypatch):
    url, folder = served
    publish(folder, monkeypatch)
    reported = []
    target = fetch_mnist(url + "/", tmp_path / "new" / "mnist", lambda what, share: reported.append((what, share)))
    assert sorted(file.name for file in target.iterdir()) == sorted(MNIST_MD5)
    assert load(DataSource(path=str(target))).samples == 12
    assert list(dict.fromkeys(what for what, _ in reported)) == list(MNIST_MD5)
    shares = [share for _, share in reported]
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert shares == sorted(shares)


def test_files_that_are_there_are_not_fetched_again(served, tmp_path, monkeypatch):
    url, folder = served
    publish(folder, monkeypatch)
    fetch_mnist(url, tmp_path)
    for file in folder.iterdir():
        file.unlink()
    assert fetch_mnist(url, tmp_path) == tmp_path


def test_a_damaged_file_that_is_there_is_fetched_anew(served, tmp_path, monkeypatch):
    url, folder = served
    publish(folder, monkeypatch)
    name = "t10k-labels-idx1-ubyte.gz"
    (tmp_path / name).write_bytes(b"half of it")
    fetch_mnist(url, tmp_path)
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_other_files_than_the_published_ones_are_refused_and_not_kept(served, tmp_path):
    url, folder = served
    write_mnist(folder, suffix=".gz")
    with pytest.raises(DataError, match=r"is not the published train-images-idx3-ubyte\.gz: its md5 differs"):
        fetch_mnist(url, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_the_server_lacks_is_named(served, tmp_path, monkeypatch):
    url, folder = served
    publish(folder, monkeypatch)
    (folder / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"cannot fetch .*train-labels-idx1-ubyte\.gz .*404"):
        fetch_mnist(url, tmp_path)


def test_a_server_that_does_not_answer_is_named(served, tmp_path):
    with pytest.raises(DataError, match=r"cannot fetch http://127\.0\.0\.1:1/"):
        fetch_mnist("http://127.0.0.1:1", tmp_path)


def test_a_folder_that_cannot_be_made_is_named(served, tmp_path, monkeypatch):
    url, folder = served
    publish(folder, monkeypatch)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot fetch .* into .*file"):
        fetch_mnist(url, tmp_path / "file" / "below")


@pytest.mark.parametrize("url", ["file:///etc", "mnist", "ftp://x", ""])
def test_only_web_addresses_are_fetched_from(url, tmp_path):
    with pytest.raises(UsageError, match="expected http:// or https://"):
        fetch_mnist(url, tmp_path)


def test_without_pooch_the_error_has_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingExtra, match=r"pip install 'mlpprof\[data\]'"):
        fetch_mnist("http://127.0.0.1:1", tmp_path)


def test_the_sums_are_those_of_the_real_files(shared_data):
    for name, md5 in MNIST_MD5.items():
        assert hashlib.md5((shared_data / name).read_bytes()).hexdigest() == md5
