"""MedMNIST: arrays become PNG files with the same pixels, and rows with their labels."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from test_collection import DAMAGED_HEADERS, array_file

from evaluation.datasets import medmnist
from evaluation.datasets.medmnist import Naming
from evaluation.datasets.records import NO_LABEL, SEVERAL_LABELS, DatasetError, Image, LeftOut, Reading

ONE_EACH = np.array([[0], [1]], np.uint8)
MANY = np.array([[0, 0, 0], [0, 1, 1]], np.uint8)


def pictures_of(number: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (number, *shape), np.uint8)


def archive(root: Path, images: np.ndarray, labels: np.ndarray, name: str = "chestmnist") -> Path:
    arrays = {f"{split}_images": images for split in medmnist.SPLITS}
    np.savez(root / f"{name}.npz", **arrays, **{f"{split}_labels": labels for split in medmnist.SPLITS})
    return root / f"{name}.npz"


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3)])
def test_pictures_come_out_with_the_same_pixels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = pictures_of(2, *shape)
    archive(tmp_path, images, ONE_EACH)
    outcomes = list(medmnist.read(Reading(tmp_path), tmp_path / "png", Naming("XR", "chest", {1: "mass"})))
    assert len(outcomes) == 6
    last = outcomes[-1]
    assert last == Image(
        tmp_path / "png/test/chestmnist-test-000001.png", "chestmnist", "XR", "chest", ("mass",), split="test"
    )
    assert [one.labels for one in outcomes[:2] if isinstance(one, Image)] == [("label-0",), ("mass",)]
    assert [one.split for one in outcomes[::2] if isinstance(one, Image)] == ["train", "val", "test"]
    with Pillow.open(last.filepath) as written:
        assert np.array_equal(np.asarray(written), images[1])


def test_a_picture_of_several_classes_or_none_follows_the_rules(tmp_path: Path) -> None:
    path = archive(tmp_path, pictures_of(2, 4, 4), MANY)
    strict = list(medmnist.read(Reading(path), tmp_path / "strict", Naming()))
    assert strict == [LeftOut(NO_LABEL), LeftOut(SEVERAL_LABELS)] * 3
    assert not (tmp_path / "strict").exists()
    naming = Naming(classes={2: "edema"}, unlabelled="No Finding")
    kept = list(medmnist.read(Reading(path, all_labels=True), tmp_path / "all", naming))
    assert [one.labels for one in kept[:2] if isinstance(one, Image)] == [("No Finding",), ("label-1", "edema")]


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (pictures_of(2, 4, 4, 4), ONE_EACH, "volumes"),
        (pictures_of(2, 4, 4).astype(np.float32), ONE_EACH, "no flat 8-bit pictures"),
        (pictures_of(3, 4, 4), ONE_EACH, "one row of whole numbers"),
        (pictures_of(2, 4, 4), ONE_EACH[:, 0], "one row of whole numbers"),
        (pictures_of(2, 4, 4), ONE_EACH.astype(np.float32), "one row of whole numbers"),
        (pictures_of(2, 4, 4), MANY * 2, "not 0 or 1"),
        (pictures_of(2, 4, 4), np.array([[{}], [{}]]), "cannot be read"),
    ],
)
def test_what_is_no_flat_data_set_is_refused(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray, words: str
) -> None:
    path = archive(tmp_path, images, labels)
    with pytest.raises(DatasetError, match=words):
        list(medmnist.read(Reading(path), tmp_path / "png", Naming()))


def test_a_file_that_is_none_or_lacks_a_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "part.npz", train_images=pictures_of(2, 4, 4), train_labels=ONE_EACH)
    with pytest.raises(DatasetError, match=r"2 \.npz files, name one of them"):
        list(medmnist.read(Reading(tmp_path), tmp_path / "png", Naming()))
    for name, words in (("text", "cannot be read"), ("part", "lacks val_images or val_labels")):
        with pytest.raises(DatasetError, match=words):
            list(medmnist.read(Reading(tmp_path / f"{name}.npz"), tmp_path / "png", Naming()))


@pytest.mark.parametrize("header", DAMAGED_HEADERS.values(), ids=DAMAGED_HEADERS)
def test_an_array_with_a_damaged_header_is_refused(tmp_path: Path, header: str) -> None:
    path = archive(tmp_path, pictures_of(2, 4, 4), ONE_EACH)
    with zipfile.ZipFile(path, "w") as arrays:
        arrays.writestr("train_images.npy", array_file(header))
        arrays.writestr("train_labels.npy", array_file(header))
    with pytest.raises(DatasetError, match="cannot be read"):
        list(medmnist.read(Reading(path), tmp_path / "png", Naming()))


def in_directory(place: int, value: bytes) -> Callable[[bytes], bytes]:
    """Write over what the archive's directory says of its first file: flags at byte 8, compression at 10."""
    return lambda content: overwritten(content.index(b"PK\x01\x02") + place, value)(content)


def overwritten(place: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content[:place] + value + content[place + len(value) :]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(in_directory(8, b"\x01"), id="a password is asked for"),  # bit 0 of the directory's flags
        pytest.param(in_directory(10, b"\x63"), id="a compression that nobody knows"),
        pytest.param(in_directory(10, b"\x0e"), id="said to be LZMA"),
        pytest.param(in_directory(10, b"\x0c"), id="said to be bzip2"),
        pytest.param(in_directory(10, b"\x08"), id="said to be deflated"),
        pytest.param(overwritten(400, b"\x00\xff"), id="another checksum"),
        pytest.param(lambda content: content[:-30], id="cut off"),
        pytest.param(lambda _: array_file("{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}"), id="no zip"),
        pytest.param(lambda _: b"\x80\x04N.", id="a pickle"),
    ],
)
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = archive(tmp_path, pictures_of(2, 32, 32), ONE_EACH)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match="cannot be read"):
        list(medmnist.read(Reading(path), tmp_path / "png", Naming()))


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_compressed_arrays_are_refused(tmp_path: Path, compression: int) -> None:
    path = archive(tmp_path, pictures_of(2, 4, 4), ONE_EACH)
    with zipfile.ZipFile(path, "w", compression) as arrays:
        for name in ("train_images.npy", "train_labels.npy"):
            arrays.writestr(name, array_file("{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}"))
    for place in range(60, 80):  # behind the first file's name: the compressed bytes
        damaged = path.with_name(f"{place}.npz")
        damaged.write_bytes(overwritten(place, b"\xff\xff\xff")(path.read_bytes()))
        with pytest.raises(DatasetError, match="cannot be read"):
            list(medmnist.read(Reading(damaged), tmp_path / "png", Naming()))


def test_an_archive_of_files_that_are_no_arrays_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    with zipfile.ZipFile(path, "w") as arrays:
        arrays.writestr("train_images", b"pixels")
        arrays.writestr("train_labels", b"labels")
    with pytest.raises(DatasetError, match="files that are no arrays"):
        list(medmnist.read(Reading(path), tmp_path / "png", Naming()))


def test_a_table_names_the_classes(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text("label,name\n0,no mass\n11,mass\n")
    assert medmnist.read_classes(tmp_path / "classes.csv") == {0: "no mass", 11: "mass"}


@pytest.mark.parametrize("line", ["x,mass", "1,", "1,a;b"])
def test_a_table_of_classes_that_cannot_be_used_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "classes.csv").write_text(f"label,name\n{line}\n")
    with pytest.raises(DatasetError, match="needs a number under label"):
        medmnist.read_classes(tmp_path / "classes.csv")
