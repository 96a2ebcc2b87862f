"""Thumbnails: small, the same each time, without metadata; kept under the hash of their bytes, whole or not at all."""

import errno
import hashlib
import io
import os
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from radsearch.errors import DiskFullError, RadSearchError
from radsearch.settings import Settings
from radsearch.thumbnails import Thumbnails, thumbnail_of, thumbnails_of

GREY = np.random.default_rng(1).integers(0, 256, (300, 200), dtype=np.uint8)
COLOUR = np.random.default_rng(2).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.fixture
def kept(tmp_path: Path) -> Thumbnails:
    return Thumbnails(tmp_path / "thumbnails")


def files(kept: Thumbnails) -> list[str]:
    return sorted(str(path.relative_to(kept.folder)) for path in kept.folder.rglob("*") if path.is_file())


def chunks(thumbnail: bytes) -> list[bytes]:
    """The names of the parts of a WebP file (RFC 9649): length-prefixed, padded to an even number of bytes."""
    assert (thumbnail[:4], thumbnail[8:12]) == (b"RIFF", b"WEBP")
    names, place = [], 12
    while place < len(thumbnail):
        names.append(thumbnail[place : place + 4])
        place += 8 + (int.from_bytes(thumbnail[place + 4 : place + 8], "little") + 1) // 2 * 2
    return names


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((300, 200), (128, 192)),
        ((1000, 3000), (192, 64)),
        ((5000, 4000), (154, 192)),
        ((60, 90), (90, 60)),
        ((192, 192), (192, 192)),
        ((1, 4000), (192, 1)),
        ((4000, 1), (1, 192)),
        ((1, 1), (1, 1)),
    ],
)
@pytest.mark.parametrize("channels", [(), (3,)])
def test_the_longest_side_is_192_pixels_at_most(
    shape: tuple[int, int], size: tuple[int, int], channels: tuple[int, ...]
) -> None:
    image = Image.open(io.BytesIO(thumbnail_of(np.zeros((*shape, *channels), np.uint8))))
    assert (image.format, image.mode, image.size) == ("WEBP", "RGB", size)


def test_a_thumbnail_shows_its_picture() -> None:
    """The right half white, the left one black; red stays red."""
    halves = np.zeros((400, 400), np.uint8)
    halves[:, 200:] = 255
    shown = np.asarray(Image.open(io.BytesIO(thumbnail_of(halves)))).astype(int)
    assert shown.shape == (192, 192, 3)
    assert shown[:, :90].max() < 12
    assert shown[:, 102:].min() > 243
    assert np.ptp(shown, axis=2).max() <= 1, "grey became coloured"
    red = np.zeros((400, 400, 3), np.uint8)
    red[..., 0] = 255
    mean = np.asarray(Image.open(io.BytesIO(thumbnail_of(red)))).mean(axis=(0, 1))
    np.testing.assert_allclose(mean, (255, 0, 0), atol=8)


@pytest.mark.parametrize("picture", [GREY, COLOUR, COLOUR[:, ::-1], GREY.T], ids=["grey", "colour", "view", "turned"])
def test_the_same_picture_gives_the_same_bytes_and_no_metadata(picture: np.ndarray) -> None:
    thumbnail = thumbnail_of(picture)
    assert thumbnail == thumbnail_of(picture.copy())
    assert chunks(thumbnail) == [b"VP8 "]


def test_a_thumbnail_is_kept_under_the_hash_of_its_bytes(kept: Thumbnails) -> None:
    thumbnail = thumbnail_of(GREY)
    name = kept.write(thumbnail)
    assert name == hashlib.sha256(thumbnail).hexdigest()
    assert kept.read(name) == thumbnail
    assert files(kept) == [f"{name[:2]}/{name}.webp"]
    assert stat.S_IMODE(kept.folder.stat().st_mode) == 0o700


def test_one_that_is_there_is_not_written_again(kept: Thumbnails) -> None:
    name = kept.write(b"one")
    before = (kept.folder / name[:2] / f"{name}.webp").stat().st_ino
    assert kept.write(b"one") == name
    assert (kept.folder / name[:2] / f"{name}.webp").stat().st_ino == before


def test_one_that_was_cut_off_is_written_again(kept: Thumbnails) -> None:
    name = kept.write(b"whole")
    (kept.folder / name[:2] / f"{name}.webp").write_bytes(b"")
    assert kept.read(name) is None
    kept.write(b"whole")
    assert kept.read(name) == b"whole"


def test_a_damaged_or_missing_thumbnail_is_none(kept: Thumbnails) -> None:
    name = kept.write(b"whole")
    assert kept.read("0" * 64) is None
    (kept.folder / name[:2] / f"{name}.webp").write_bytes(b"whale")
    assert kept.read(name) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda name: f"../{name[:2]}/{name}",
        lambda name: f"{name}\n",
        lambda name: f"{name}/../{name}",
        lambda name: name.upper(),
        lambda name: name[:63],
        lambda _: "../" * 20 + "etc/passwd",
        lambda _: "/etc/passwd",
        lambda _: "\0",
        lambda _: "",
    ],
)
def test_what_is_no_name_is_not_looked_for(
    kept: Thumbnails, monkeypatch: pytest.MonkeyPatch, change: Callable[[str], str]
) -> None:
    name = kept.write(b"a letter is in its hash")
    assert name.upper() != name
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read"))
    assert kept.read(change(name)) is None


def test_many_may_write_the_same_ones_at_once(kept: Thumbnails) -> None:
    contents = [bytes([number]) * 1000 for number in range(40)]
    start = threading.Barrier(8)

    def write(_: int) -> list[str]:
        start.wait()
        return [kept.write(content) for content in contents]

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(write, range(8)))
    assert all(answer == answers[0] for answer in answers)
    assert [kept.read(name) for name in answers[0]] == contents
    assert len(files(kept)) == 40


@pytest.mark.parametrize(
    ("number", "error", "words"),
    [
        (errno.ENOSPC, DiskFullError, "is full: make room"),
        (errno.EDQUOT, DiskFullError, "is full: make room"),
        (errno.EACCES, RadSearchError, "no thumbnail can be written to .*Permission denied"),
    ],
)
def test_a_disk_that_takes_no_more_is_said_and_nothing_half_written_stays(
    kept: Thumbnails, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception], words: str
) -> None:
    def fail(path: Path, content: bytes) -> None:
        with path.open("wb") as stream:
            stream.write(content[:1])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(error, match=words) as caught:
        kept.write(b"whole")
    assert "\n" not in str(caught.value)
    assert files(kept) == []


def aged(kept: Thumbnails, *paths: str) -> None:
    for path in paths:
        os.utime(kept.folder / path, (time.time() - 2 * 86400,) * 2)


def test_a_sweep_takes_what_nobody_uses_and_nothing_else(kept: Thumbnails) -> None:
    used, unused, asked_for, young = (kept.write(content) for content in (b"used", b"unused", b"asked", b"young"))
    half = f"{unused[:2]}/.half-{'0' * 32}"
    for foreign in (half, f"{unused[:2]}/holiday.webp", "ab.webp"):
        (kept.folder / foreign).write_bytes(b"")
    aged(kept, *(path for path in files(kept) if young not in path))
    kept.write(b"asked")  # by an ingest that has not written its point yet
    assert kept.sweep({used}) == 2
    assert [kept.read(name) for name in (used, unused, asked_for, young)] == [b"used", None, b"asked", b"young"]
    left = {f"{name[:2]}/{name}.webp" for name in (used, asked_for, young)}
    assert set(files(kept)) == {*left, f"{unused[:2]}/holiday.webp", "ab.webp"}
    assert kept.sweep({used}, settled_seconds=-1) == 2


def test_a_sweep_of_no_folder_removes_nothing(kept: Thumbnails) -> None:
    assert kept.sweep(set()) == 0
    assert not kept.folder.exists()


def test_those_of_another_folder_are_brought_but_no_lost_ones(kept: Thumbnails, tmp_path: Path) -> None:
    other = Thumbnails(tmp_path / "other")
    good, damaged = kept.write(b"good"), kept.write(b"damaged")
    (kept.folder / damaged[:2] / f"{damaged}.webp").write_bytes(b"other")
    other.bring([good, damaged, "0" * 64, "../../x"], kept)
    assert other.read(good) == b"good"
    assert len(files(other)) == 1


def test_an_index_in_a_folder_has_its_thumbnails_within_unless_told_otherwise(
    settings: Settings, tmp_path: Path
) -> None:
    def folder_of(**changes: object) -> Path | None:
        found = thumbnails_of(replace(settings, **changes))  # type: ignore[arg-type]
        return found.folder if found else None

    assert folder_of() == tmp_path / "index" / "thumbnails"
    assert folder_of(index="https://qdrant:6333") is None
    for index in (settings.index, "https://qdrant:6333"):
        assert folder_of(index=index, thumbnails_folder=tmp_path / "there") == tmp_path / "there"
    assert not (tmp_path / "index").exists()
