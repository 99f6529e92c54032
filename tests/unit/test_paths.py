"""Files that are written whole or not at all, and what is no regular file and so must stay what it is."""

import os
import stat
from threading import Thread

import click
import pytest

from harness.cli.values import OutputFile, write_output
from harness.errors import BadUseError
from harness.paths import replacing, write_atomically


def test_a_file_has_the_old_content_or_the_new(tmp_path):
    file = tmp_path / "file"
    write_atomically(file, b"old")
    with pytest.raises(TypeError), replacing(file) as new:
        new.writelines([b"half of the", None])
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_fifo_is_written_to_and_stays_one(tmp_path):
    fifo, read = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reading = Thread(target=lambda: read.append(fifo.read_bytes()))
    reading.start()
    write_atomically(fifo, b"content")
    reading.join(timeout=30)
    assert read == [b"content"]
    assert stat.S_ISFIFO(fifo.lstat().st_mode)
    assert list(tmp_path.iterdir()) == [fifo]


@pytest.mark.parametrize("there", [True, False])
def test_what_a_symbolic_link_names_is_replaced_and_the_link_stays(tmp_path, there):
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    if there:
        (folder / "file").write_bytes(b"old")
    link.symlink_to(folder / "file")
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert (folder / "file").read_bytes() == b"new"
    assert {path.name for path in (*tmp_path.iterdir(), *folder.iterdir())} == {"folder", "link", "file"}


@pytest.fixture
def full(tmp_path):
    """A device that is always full, of our own: the machine's must not be at stake."""
    device = tmp_path / "full"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
        device.open("wb").close()
    except OSError as error:
        pytest.skip(f"no device can be made here: {error}")
    return device


def test_a_device_is_written_to_and_stays_one(full):
    with pytest.raises(BadUseError, match=r"cannot write .*full: No space left on device"):
        write_output(full, b"content")
    assert stat.S_ISCHR(full.lstat().st_mode)
    link = full.with_name("link")
    link.symlink_to(full)
    with pytest.raises(BadUseError, match="No space left on device"):
        write_output(link, b"content")
    assert link.is_symlink()
    assert stat.S_ISCHR(full.lstat().st_mode)


def test_an_option_takes_a_fifo_and_a_link_into_a_folder_that_is_there(tmp_path):
    def taken(path):
        return OutputFile().convert(str(path), None, None) == path

    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert taken(tmp_path / "fifo")
    assert taken(tmp_path / "link")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere" / "file")
    with pytest.raises(click.BadParameter, match="there is no folder"):
        taken(tmp_path / "lost")
