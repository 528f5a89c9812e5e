import os
import stat

import pytest

from mlpprof.errors import UsageError
from mlpprof.files import require_writable, require_writable_folder, write_atomically


def names_in(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_finished_block_replaces_the_file(tmp_path):
    path = tmp_path / "report.txt"
    path.write_text("old")
    with write_atomically(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent
    assert path.read_text() == "new"
    assert names_in(tmp_path) == ["report.txt"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, SystemExit])
def test_an_unfinished_block_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "report.txt"
    path.write_text("old")
    with pytest.raises(failure), write_atomically(path) as temporary:
        temporary.write_text("half")
        raise failure
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["report.txt"]


def test_the_bytes_are_on_disk_before_the_name_points_to_them(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (events.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (events.append("replace"), replace(*paths)))
    with write_atomically(tmp_path / "report.txt") as temporary:
        temporary.write_text("new")
    assert events[:2] == ["fsync", "replace"]


@pytest.mark.skipif(os.name != "posix", reason="umask is of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_of_a_file_follows_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with write_atomically(tmp_path / "report.txt") as temporary:
            temporary.write_text("new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "report.txt").stat().st_mode) == mode


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("links are not allowed here")
    with write_atomically(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_name_as_long_as_names_can_be_is_written(tmp_path):
    path = tmp_path / ("n" * 251 + ".txt")
    with write_atomically(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def refusal(path) -> str:
    with pytest.raises(UsageError) as caught, write_atomically(path):
        pytest.fail("the block was entered")
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_a_missing_folder_is_named(tmp_path):
    path = tmp_path / "nowhere" / "report.txt"
    assert f"no folder {tmp_path / 'nowhere'}" in refusal(path)
    assert names_in(tmp_path) == []


def test_a_folder_is_not_overwritten(tmp_path):
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_replaced_by_a_file(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert "not a regular file" in refusal(path)
    assert stat.S_ISFIFO(path.stat().st_mode)


def test_a_full_disk_is_reported_in_one_line(tmp_path):
    path = tmp_path / "report.txt"
    with pytest.raises(UsageError, match="No space left on device"), write_atomically(path):
        raise OSError(28, "No space left on device")
    assert names_in(tmp_path) == []


def test_a_place_is_tried_without_touching_what_is_there(tmp_path):
    path = tmp_path / "report.txt"
    path.write_text("old")
    before = path.stat()
    require_writable(path, None)
    assert path.read_text() == "old"
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert names_in(tmp_path) == ["report.txt"]


def test_a_folder_that_is_not_there_yet_is_tried_without_making_it(tmp_path):
    require_writable_folder(tmp_path / "new" / "reports")
    assert names_in(tmp_path) == []


def test_a_file_where_a_folder_is_wanted_is_found_before(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=f"cannot write into {tmp_path / 'file' / 'reports'}: "):
        require_writable_folder(tmp_path / "file" / "reports")


def test_a_name_that_is_too_long_is_found_before(tmp_path):
    with pytest.raises(UsageError, match="name too long"):
        require_writable(tmp_path / ("n" * 300))


def test_a_file_system_that_turns_read_only_does_not_hide_the_first_error(tmp_path, monkeypatch):
    def read_only(_path, missing_ok=False):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.unlink", read_only)
    with pytest.raises(UsageError, match="No space left on device"), write_atomically(tmp_path / "report.txt"):
        raise OSError(28, "No space left on device")
