"""What every archive does, in memory and in a directory alike."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from eventstore import InvalidInput, StoreUnavailable
from eventstore.archive.directory import UNFINISHED
from eventstore.archive.naming import FileOf, new_file_name, prefix_of_session, told_by
from eventstore.archive.places import ARCHIVE_VARIABLE, Archive, DirectoryArchive, MemoryArchive, open_archive, size_of


@pytest.fixture(params=["memory", "directory"])
def archive(request: pytest.FixtureRequest, directory: Path) -> Archive:
    """An empty archive of each kind in turn; the directory does not exist yet."""
    return MemoryArchive() if request.param == "memory" else DirectoryArchive(directory / "not" / "yet")


async def test_what_was_put_is_got(archive: Archive) -> None:
    """A file comes back byte for byte, the last one of its name; one that is not there is None."""
    assert await archive.names() == []
    assert await archive.get("a") is None
    await archive.put("a", b"first")
    await archive.put("a", bytes(range(256)) * 1000)
    await archive.put("b.jsonl.zst", b"")
    assert await archive.get("a") == bytes(range(256)) * 1000
    assert await archive.get("b.jsonl.zst") == b""
    assert await archive.names() == ["a", "b.jsonl.zst"]
    assert await archive.names("b") == ["b.jsonl.zst"]


async def test_what_was_deleted_is_gone(archive: Archive) -> None:
    """A file that is deleted is gone, and deleting it again, or one that never was, is no error."""
    await archive.delete("a")
    await archive.put("a", b"1")
    await archive.put("b", b"2")
    await archive.delete("a")
    await archive.delete("a")
    assert await archive.get("a") is None
    assert await archive.names() == ["b"]


@pytest.mark.parametrize("name", ["", "..", ".a", "a/b", "../a", "/a", "a\0", "a b", "ä", "x" * 256, None, 1], ids=repr)
async def test_no_name_leads_elsewhere(archive: Archive, name: str) -> None:
    """What is no plain name is refused by every method that takes one."""
    with pytest.raises(InvalidInput):
        await archive.put(name, b"1")
    with pytest.raises(InvalidInput):
        await archive.get(name)
    with pytest.raises(InvalidInput):
        await archive.delete(name)
    assert await archive.names() == []


async def test_many_at_once(archive: Archive) -> None:
    """Of several who write one name at once, one file is left, and it is whole."""
    contents = [bytes([number]) * 100_000 for number in range(8)]
    await asyncio.gather(*(archive.put("a", content) for content in contents))
    assert await archive.get("a") in contents
    assert await archive.names() == ["a"]


async def test_an_unfinished_file_is_none(directory: Path) -> None:
    """What a writer that died left behind is not among the names, and does no harm."""
    (directory / f"{UNFINISHED}0").write_bytes(b"half")
    archive = DirectoryArchive(directory)
    assert await archive.names() == []
    await archive.put("a", b"1")
    assert await archive.names() == ["a"]


async def test_a_directory_is_no_file(directory: Path) -> None:
    """What has the name of a file and is none is not there, and stays where it is."""
    (directory / "a").mkdir()
    archive = DirectoryArchive(directory)
    assert (await archive.get("a"), await size_of(archive, "a"), await archive.names()) == (None, None, [])
    await archive.delete("a")
    assert (directory / "a").is_dir()
    with pytest.raises(StoreUnavailable, match="for its file 'a'"):
        await archive.put("a", b"1")


async def test_the_size_of_a_file(archive: Archive) -> None:
    """It is told of every archive, and is None where there is no file."""
    await archive.put("a", b"12345")
    await archive.put("b", b"")
    assert [await size_of(archive, name) for name in ("a", "b", "c")] == [5, 0, None]


async def test_a_directory_that_cannot_be_used(directory: Path) -> None:
    """A place that is no directory raises, and says which archive it is."""
    (directory / "file").write_text("x")
    archive = DirectoryArchive(directory / "file")
    with pytest.raises(StoreUnavailable, match=r"file://.*/file"):
        await archive.put("a", b"1")
    with pytest.raises(StoreUnavailable):
        await archive.get("a")
    with pytest.raises(StoreUnavailable):
        await archive.names()


async def test_a_full_disk_leaves_no_part(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the content cannot be forced to the disk, there is no file, and the one of before stays."""
    archive = DirectoryArchive(directory)
    await archive.put("a", b"before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreUnavailable, match="No space left"):
            await archive.put("a", b"after")
    assert await archive.get("a") == b"before"
    assert [entry.name for entry in os.scandir(directory)] == ["a"]


class TestNames:
    def test_of_a_session(self) -> None:
        """Any session id and namespace make a plain name, which tells its namespace and when it was begun."""
        for namespace in ("app", "..", "a-b", "x" * 64):
            for session_id in ("s", "../../etc/passwd", "日本語" * 50, "a\nb", "-5-6-"):
                name = new_file_name(namespace, session_id, 17, 1234)
                assert name.startswith(prefix_of_session(namespace, session_id))
                assert told_by(name) == FileOf(namespace, 1234)
                assert len(name) <= 255
                asyncio.run(MemoryArchive().put(name, b""))

    def test_no_name_twice(self) -> None:
        """The same session at the same version gets another name each time; other sessions, another beginning."""
        assert len({new_file_name("app", "s", 1, 1) for _ in range(100)}) == 100
        assert prefix_of_session("a", "s") != prefix_of_session("a-b", "s")
        assert not new_file_name("a", "t", 1, 1).startswith(prefix_of_session("a", "s"))

    def test_others(self) -> None:
        """A file that somebody else put there is not taken for ours."""
        for name in ("a", "log-app-1-2-3-4.jsonl.zst", new_file_name("app", "s", 1, 1) + "x"):
            assert told_by(name) is None


class TestOpening:
    def test_by_url(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A URL names a directory; the environment names one where nobody else does; without either there is none."""
        monkeypatch.delenv(ARCHIVE_VARIABLE, raising=False)
        assert open_archive() is None
        opened = open_archive(f"file://{directory}/a%20b")
        assert isinstance(opened, DirectoryArchive)
        assert opened.directory == directory / "a b"
        monkeypatch.setenv(ARCHIVE_VARIABLE, f"file://{directory}/c")
        from_environment = open_archive()
        assert isinstance(from_environment, DirectoryArchive)
        assert from_environment.directory == directory / "c"
        mine = MemoryArchive()
        assert open_archive(mine) is mine

    @pytest.mark.parametrize(
        "target", ["/a/directory", "file://", "file:///", "file://host/a", "s3://bucket", 1], ids=repr
    )
    def test_what_is_none(self, target: str) -> None:
        """What names no archive is refused, with what would."""
        with pytest.raises(InvalidInput, match="archive"):
            open_archive(target)
