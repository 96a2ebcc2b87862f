"""An index in a folder as one file, and back; whole or not at all."""

import shutil
import stat
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_index_embedded import MODEL, held_by_another_process, image

from radsearch.errors import IndexBusyError, IndexMissingError, RadSearchError, SettingsError
from radsearch.index import open_index
from radsearch.index.snapshots import restore, snapshot
from radsearch.settings import Settings
from radsearch.thumbnails import thumbnails_of

pytestmark = pytest.mark.slow


@pytest.fixture
def filled(settings: Settings) -> Settings:
    with open_index(settings, create_for=[MODEL]) as index:
        index.admit([MODEL], "check")
        index.write([image(number) for number in range(20)])
    return replace(settings, busy_wait_seconds=0)


def test_a_restored_index_is_the_one_that_was_saved(filled: Settings, tmp_path: Path) -> None:
    file = tmp_path / "saved.tar"
    assert snapshot(filled, file) == 20
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
    with tarfile.open(file) as archive:
        assert "./radsearch.json" in archive.getnames()
        assert "./holder.json" not in archive.getnames()
    elsewhere = replace(filled, index=str(tmp_path / "deep" / "restored"))
    assert restore(file, elsewhere) == 20
    assert stat.S_IMODE(Path(elsewhere.index).stat().st_mode) == 0o700
    with open_index(filled) as before, open_index(elsewhere) as after:
        assert after.card == before.card
        ids = [image(number).id for number in range(20)]
        one, other = (
            {point.id: point for point in index.retrieve(ids, vectors_of=["first"])} for index in (before, after)
        )
        assert one.keys() == other.keys() == set(ids)
        for point in ids:
            assert one[point].payload == other[point].payload
            np.testing.assert_array_equal(one[point].vectors["first"], other[point].vectors["first"])


def test_a_snapshot_holds_the_thumbnails_and_misses_a_changed_one(filled: Settings, tmp_path: Path) -> None:
    thumbnails = thumbnails_of(filled)
    assert thumbnails is not None
    name = thumbnails.write(b"thumbnail")
    file, elsewhere = tmp_path / "saved.tar", replace(filled, index=str(tmp_path / "restored"))
    snapshot(filled, file)
    restore(file, elsewhere)
    restored = thumbnails_of(elsewhere)
    assert restored is not None
    assert restored.read(name) == b"thumbnail"
    file.write_bytes(file.read_bytes().replace(b"thumbnail\0", b"thumbnaiL\0"))
    with pytest.raises(IndexMissingError, match="damaged: not all of it is there"):
        restore(file, replace(filled, index=str(tmp_path / "again")))


def test_an_index_opens_whatever_becomes_of_its_thumbnails(filled: Settings) -> None:
    """They are none of the files whose loss is noticed."""
    thumbnails = thumbnails_of(filled)
    assert thumbnails is not None
    for change in (lambda: thumbnails.write(b"thumbnail"), lambda: shutil.rmtree(thumbnails.folder)):
        change()
        with open_index(filled, sole_writer=True) as index:
            assert index.count() == 20
            index.write([image(1)])
            index.finish()


def test_a_file_or_folder_that_is_there_is_not_overwritten(filled: Settings, tmp_path: Path) -> None:
    file = tmp_path / "saved.tar"
    file.write_bytes(b"mine")
    with pytest.raises(SettingsError, match="exists; name a new file"):
        snapshot(filled, file)
    assert file.read_bytes() == b"mine"
    file.unlink()
    snapshot(filled, file)
    with pytest.raises(IndexMissingError, match="exists and is not empty"):
        restore(file, filled)


def test_no_snapshot_is_taken_while_another_process_has_the_index(filled: Settings, tmp_path: Path) -> None:
    with held_by_another_process(filled.index), pytest.raises(IndexBusyError):
        snapshot(filled, tmp_path / "saved.tar")
    assert not (tmp_path / "saved.tar").exists()


def test_a_snapshot_that_was_cut_anywhere_leaves_nothing(filled: Settings, tmp_path: Path) -> None:
    """A TAR file that is cut within the header of a member looks like a shorter one."""
    file, cut = tmp_path / "saved.tar", tmp_path / "cut.tar"
    snapshot(filled, file)
    whole = file.read_bytes()
    with tarfile.open(file) as archive:
        headers = [member.offset for member in archive]
    target = tmp_path / "restored"
    for offset in [headers[1], headers[2], *headers[3 :: len(headers) // 8], headers[-1]]:
        cut.write_bytes(whole[: offset + 100])
        with pytest.raises(IndexMissingError, match=r"damaged|is no snapshot"):
            restore(cut, replace(filled, index=str(target)))
        assert not target.exists()
        assert list(tmp_path.glob(".restored*")) == []


def test_a_snapshot_whose_bytes_have_changed_leaves_nothing(filled: Settings, tmp_path: Path) -> None:
    file = tmp_path / "saved.tar"
    snapshot(filled, file)
    with tarfile.open(file) as archive:
        (vectors,) = (one for one in archive if one.name.endswith("vector_storage-first/vectors/chunk_0.mmap"))
    content = bytearray(file.read_bytes())
    content[vectors.offset_data + 5] ^= 1
    file.write_bytes(content)
    with pytest.raises(IndexMissingError, match="damaged: not all of it is there"):
        restore(file, replace(filled, index=str(tmp_path / "restored")))
    assert not (tmp_path / "restored").exists()


@pytest.mark.parametrize("place", [".", "file/saved.tar", "none/saved.tar"])
def test_a_place_that_cannot_be_written_is_said(
    filled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "here" / "file").parent.mkdir()
    (tmp_path / "here" / "file").touch()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(RadSearchError) as caught:
        snapshot(filled, Path(place))
    assert "\n" not in str(caught.value)


def test_an_index_is_restored_into_the_folder_that_one_is_in(
    filled: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot(filled, tmp_path / "saved.tar")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert restore(tmp_path / "saved.tar", replace(filled, index=".")) == 20


@pytest.mark.parametrize("content", [b"", b"no archive", "cut", "another"])
def test_what_is_no_snapshot_leaves_nothing(filled: Settings, tmp_path: Path, content: bytes | str) -> None:
    file = tmp_path / "saved.tar"
    if content == "another":
        (tmp_path / "holiday.txt").write_text("sand")
        with tarfile.open(file, "w") as archive:
            archive.add(tmp_path / "holiday.txt", arcname="holiday.txt")
    elif content == "cut":
        snapshot(filled, file)
        file.write_bytes(file.read_bytes()[:5000])
    else:
        file.write_bytes(content)
    target = tmp_path / "restored"
    with pytest.raises(RadSearchError) as caught:
        restore(file, replace(filled, index=str(target)))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    assert list(tmp_path.glob(".restored*")) == []


def test_a_snapshot_that_would_write_elsewhere_is_refused(filled: Settings, tmp_path: Path) -> None:
    (tmp_path / "evil.txt").write_text("x")
    file = tmp_path / "saved.tar"
    with tarfile.open(file, "w") as archive:
        archive.add(tmp_path / "evil.txt", arcname="../escaped.txt")
    with pytest.raises(RadSearchError):
        restore(file, replace(filled, index=str(tmp_path / "restored")))
    assert not (tmp_path / "escaped.txt").exists()


def test_a_missing_file_is_said(filled: Settings, tmp_path: Path) -> None:
    with pytest.raises(RadSearchError, match="No such file"):
        restore(tmp_path / "none.tar", replace(filled, index=str(tmp_path / "restored")))
