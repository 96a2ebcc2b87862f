"""What an evaluation looks at: from an index or from published embeddings, the same images in the same order."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_index_embedded import MODEL

from evaluation.collection import Collection, Image, from_files, from_index
from evaluation.contamination import seen_in_training
from radsearch.errors import EmbeddingError, ManifestError, SettingsError, UnknownNameError
from radsearch.index import IndexedImage, open_index
from radsearch.settings import Settings

ROWS = """\
filepath,patient,study,modality,region,labels,split,dataset
b.png,ann,s1,CT,chest,nodule; cyst;nodule,train,one
a.png,,s2,CR,chest,No Finding,test,one
c.png,,,MR,,tumour,,
"""
VECTORS = np.array([[3, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 1]], np.float64)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    np.save(tmp_path / "vectors.npy", VECTORS)
    (tmp_path / "manifest.csv").write_text(ROWS)
    return tmp_path / "vectors.npy", tmp_path / "manifest.csv"


def test_published_embeddings_are_ordered_by_file_and_brought_to_unit_length(files: tuple[Path, Path]) -> None:
    held = from_files(*files, "theirs")
    assert [image.id for image in held.images] == ["a.png", "b.png", "c.png"]
    np.testing.assert_allclose(held.vectors, [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0.5**0.5, 0.5**0.5]], atol=1e-7)
    assert held.vectors.dtype == np.float32
    assert held.model == {"model": "theirs", "dimension": 4}
    assert [image.patient for image in held.images] == ["s2", "ann", "c.png"]
    assert [image.findings for image in held.images] == [("No Finding",), ("cyst", "nodule"), ("tumour",)]
    assert [image.paths for image in held.images] == [
        ("XR/chest/No Finding",),
        ("CT/chest/cyst", "CT/chest/nodule"),
        (),
    ]
    assert held.images[1].facts == {"dataset": "one", "split": "train", "modality": "CT", "region": "chest"}


def test_an_index_gives_all_images_that_have_a_vector_of_the_model(settings: Settings) -> None:
    second = replace(MODEL, model="second", dimension=2)
    point = "00000000-0000-4000-8000-00000000000{}".format
    with open_index(settings, create_for=[MODEL, second]) as index:
        payload = {"models": ["first"], "modality": "CT", "region": "chest", "pathology": ["b", "a"], "split": "test"}
        one = np.array([0, 0, 1, 0], np.float32)
        index.write(
            [
                IndexedImage(point(3), {"first": one}, {**payload, "patient": "ann"}),
                IndexedImage(point(1), {"first": -one}, {**payload, "study": "s", "manufacturer": "maker"}),
                IndexedImage(point(2), {"second": one[:2] + 1}, {"models": ["second"]}),
            ]
        )
        held = from_index(index, "first")
        assert [image.id for image in held.images] == [point(1), point(3)]
        assert [image.patient for image in held.images] == ["s", "ann"]
        assert held.images[0].findings == ("a", "b")
        assert held.images[0].facts["manufacturer"] == "maker"
        np.testing.assert_allclose(held.vectors, [-one, one], atol=1e-6)
        assert held.model["weights"] == "sha256:1"
        with pytest.raises(UnknownNameError):
            from_index(index, "third")


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        (np.zeros((3, 4)), "3 vectors of .* have no direction"),
        (np.where(np.arange(12).reshape(3, 4) == 5, np.nan, 1.0), "1 vectors of .* are not finite"),
        (np.where(np.arange(12).reshape(3, 4) == 5, np.inf, 1.0), "1 vectors of .* are not finite"),
    ],
)
def test_vectors_that_are_no_directions_are_counted(files: tuple[Path, Path], vectors: "np.ndarray", said: str) -> None:
    np.save(files[0], vectors)
    with pytest.raises(EmbeddingError, match=said):
        from_files(*files, "theirs")


@pytest.mark.parametrize(
    "array", [np.ones(3), np.ones((3, 4), int), np.ones((3, 0)), np.ones((1, 3, 4)), np.array([{}, {}], object)]
)
def test_an_array_of_another_form_is_refused(files: tuple[Path, Path], array: "np.ndarray") -> None:
    np.save(files[0], array, allow_pickle=True)
    with pytest.raises(SettingsError, match=r"array|no \(images"):
        from_files(*files, "theirs")


@pytest.mark.parametrize("content", [b"", b"no array", b"PK\x03\x04"])
def test_a_file_that_is_no_array_is_refused(files: tuple[Path, Path], content: bytes) -> None:
    files[0].write_bytes(content)
    with pytest.raises(SettingsError, match="cannot be read"):
        from_files(*files, "theirs")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("filepath,modality,region\na,CT,chest\n", "has no column labels"),
        (ROWS + "d.png,,,CT,chest,x,,\n", "has 4 rows and .* has 3 vectors"),
        ("", "has no column filepath, modality, region, labels"),
        ("filepath,modality,region,labels\n\x80\n", "cannot be read"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(files: tuple[Path, Path], content: str, said: str) -> None:
    files[1].write_bytes(content.encode("latin-1"))
    with pytest.raises(ManifestError, match=said):
        from_files(*files, "theirs")


def test_a_missing_file_is_said(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        from_files(tmp_path / "none.npy", files[1], "theirs")
    with pytest.raises(ManifestError):
        from_files(files[0], tmp_path / "none.csv", "theirs")


def of_model(model: str, *datasets: str) -> Collection:
    images = [Image(str(number), "p", ("x",), {"dataset": name}) for number, name in enumerate(datasets)]
    return Collection(images, np.ones((len(images), 1), np.float32), "here", {"model": model})


def test_data_sets_that_a_model_was_trained_on_are_named(tmp_path: Path) -> None:
    held = of_model("radimagenet-resnet50", "radimagenet", "nih14", "RadImageNet")
    assert seen_in_training(held, [0, 1, 2], tmp_path) == ["RadImageNet", "radimagenet"]
    assert seen_in_training(held, [1], tmp_path) == []
    assert seen_in_training(of_model("their own", "nih14"), [0], tmp_path) is None


@pytest.mark.parametrize(
    "row",
    [
        "d.png,,,CT,chest,mass, left,train,one",  # a comma that is not quoted
        "d.png,,,CT",
        ",,,CT,chest,mass,train,one",
        "a.png,,,CT,chest,mass,train,one",
    ],
)
def test_a_row_of_another_length_or_without_a_file_of_its_own_is_refused(files: tuple[Path, Path], row: str) -> None:
    np.save(files[0], np.ones((4, 2)))
    files[1].write_text(ROWS + row + "\n")
    with pytest.raises(ManifestError, match="row 4"):
        from_files(*files, "theirs")


@pytest.mark.parametrize("array", [np.full((3, 4), 1e300), np.full((3, 4), 1e-30), np.full((3, 4), np.float32(1e25))])
def test_very_long_and_very_short_vectors_are_directions(files: tuple[Path, Path], array: "np.ndarray") -> None:
    np.save(files[0], array)
    if array.dtype == np.float64 and array[0, 0] > 1:
        with pytest.raises(EmbeddingError, match=r"3 vectors of .* are not finite"):
            from_files(*files, "theirs")
    else:
        np.testing.assert_allclose(from_files(*files, "theirs").vectors, 0.5, atol=1e-6)


def test_an_array_with_a_damaged_header_is_refused(files: tuple[Path, Path]) -> None:
    header = b"{'descr': '<,4', 'fortran_order': False, 'shape': (4, 3), }".ljust(117) + b"\n"
    files[0].write_bytes(b"\x93NUMPY\x01\x00v\x00" + header + bytes(48))
    with pytest.raises(SettingsError, match="cannot be read"):
        from_files(*files, "theirs")
