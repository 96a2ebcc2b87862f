"""What an evaluation looks at: from an index or from published embeddings, the same images in the same order."""

import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from test_index_embedded import MODEL

from evaluation import collection
from evaluation.collection import from_files, from_index
from radsearch.errors import EmbeddingError, ManifestError, SettingsError, UnknownNameError
from radsearch.index import Index, IndexedImage, Stored, open_index
from radsearch.index.records import IndexCard
from radsearch.index.schema import payload_of
from radsearch.privacy import Pseudonymizer
from radsearch.reading.manifest import read_rows
from radsearch.settings import Settings
from radsearch.study import StudyImage

ROWS = """\
filepath,patient,study,modality,region,labels,split,dataset
b.png,ann,s1,CT,chest,nodule; cyst;nodule,train,one
a.png,,s2,CR,chest,No Finding,test,one
c.png,,,MR,,tumour,,
"""
# Headers for which numpy raises something else than the ValueError that it promises.
_HEADER = "{{'descr': {}, 'fortran_order': False, 'shape': {}, }}"
DAMAGED_HEADERS = {
    "no type": _HEADER.format("'<,4'", "(4, 3)"),  # SyntaxError
    "an empty type": _HEADER.format("()", "(4, 3)"),  # IndexError
    "more rows than 64 bits": _HEADER.format("'<f4'", f"({10**22}, 4)"),  # OverflowError
    "true rows": _HEADER.format("'<f4'", "(True, 3)"),  # TypeError
    "a key that is none": "{[]: 1}",  # TypeError
    "deep nesting": "1" + "+1" * 4000,  # RecursionError
    "deeper nesting": "-" * 8000 + "1",  # MemoryError
    "an open bracket": "{'descr': '<f4', 'shape': (4, 3}",  # TokenError
    "another place to begin": "  x\n y",  # IndentationError
}
VECTORS = np.array([[3, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 1]], np.float64)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    np.save(tmp_path / "vectors.npy", VECTORS)
    (tmp_path / "manifest.csv").write_text(ROWS)
    return tmp_path / "vectors.npy", tmp_path / "manifest.csv"


def array_file(header: str) -> bytes:
    """An `.npy` file of that header, with room for a few numbers."""
    header = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(256)


def test_published_embeddings_are_ordered_by_file_and_brought_to_unit_length(files: tuple[Path, Path]) -> None:
    held = from_files(*files, "theirs")
    assert [image.id for image in held.images] == ["a.png", "b.png", "c.png"]
    np.testing.assert_allclose(held.vectors, [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0.5**0.5, 0.5**0.5]], atol=1e-7)
    assert held.vectors.dtype == np.float32
    assert held.model == {"model": "theirs", "dimension": 4}
    assert [image.patient for image in held.images] == ["study:'one':'s2'", "patient:'one':'ann'", "image:c.png"]
    assert [image.findings for image in held.images] == [("No Finding",), ("cyst", "nodule"), ("tumour",)]
    assert [image.paths for image in held.images] == [
        ("XR/chest/No Finding",),
        ("CT/chest/cyst", "CT/chest/nodule"),
        (),
    ]
    assert held.images[1].facts == {"dataset": "one", "split": "train", "modality": "CT", "region": "chest"}


def patients_of(files: tuple[Path, Path], rows: str) -> list[str]:
    """The patients of a manifest with these rows, in the order of their files."""
    np.save(files[0], np.ones((rows.count("\n"), 2)))
    files[1].write_text(f"filepath,patient,study,dataset,modality,region,labels\n{rows}")
    return [image.patient for image in from_files(*files, "theirs").images]


def test_the_same_number_is_another_person_in_another_data_set(files: tuple[Path, Path]) -> None:
    first, second, third, fourth = patients_of(files, "a,1,,nih,,,\nb,1,,other,,,\nc,1,,nih,,,\nd,1,,,,,\n")
    assert first == third
    assert len({first, second, fourth}) == 3


def test_a_study_of_a_patients_number_is_not_that_patient(files: tuple[Path, Path]) -> None:
    patient, study, same_study, other_study, image = patients_of(
        files, "6,7,8,nih,,,\n7-1,,7,nih,,,\n7-2,,7,nih,,,\n7-3,,7,other,,,\n8,,,nih,,,\n"
    )
    assert study == same_study
    assert len({patient, study, other_study, image}) == 4


def test_data_set_and_number_do_not_run_into_one_another(files: tuple[Path, Path]) -> None:
    assert len(set(patients_of(files, "a,c,,a:b,,,\nb,b:c,,a,,,\nc,':c,,a':b,,,\nd,b':':c,,a,,,\n"))) == 4


MESSY = """\
filepath,patient,study,series,modality,region,labels,split,dataset,view,sex,age,manufacturer,instance
b.png,7,7,1,ct,Chest, nodule ;cyst;;nodule,train,one,AP,female,040Y,Maker,9
a.png,7,7,1,Cr,CHEST,No Finding,test,two,pa,m,95,,9
d.png,,7,,,,,,,,x,,,
c.png,,,,MR,,tumour,VAL,,,,,,
e.png,,7,,MR,,tumour,VAL,,,,,,
"""


def test_published_embeddings_say_what_an_ingest_of_their_manifest_would_say(
    files: tuple[Path, Path], settings: Settings, pseudonymizer: Pseudonymizer
) -> None:
    np.save(files[0], np.eye(5, 4) + 1)
    files[1].write_text(MESSY)
    with open_index(settings, create_for=[MODEL]) as index:
        for row in read_rows(files[1], pseudonymizer.pseudonym, dataset=None, split=None):
            frame = StudyImage(np.zeros((2, 2), np.uint8), None, replace(row.facts, instance=row.filepath))
            payload = payload_of(frame, content="c", described="d", models=["first"])
            point = f"00000000-0000-4000-8000-00000000000{row.filepath[0]}"
            index.write([IndexedImage(point, {"first": np.ones(4, np.float32)}, payload)])
        ingested = from_index(index, "first").images
    published = from_files(*files, "theirs").images
    assert [image.id[0] for image in published] == [image.id[-1] for image in ingested] == ["a", "b", "c", "d", "e"]
    assert [(image.findings, image.facts, image.paths) for image in published] == [
        (image.findings, image.facts, image.paths) for image in ingested
    ]
    for images in (published, ingested):
        a, b, c, d, e = (image.patient for image in images)
        assert d == e
        assert len({a, b, c, d}) == 4
    assert published[1].findings == ("cyst", "nodule")
    assert published[1].facts == {
        "dataset": "one", "split": "train", "modality": "CT", "region": "chest", "view": "AP", "sex": "F",
        "manufacturer": "Maker",
    }  # fmt: skip


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
        assert [image.patient for image in held.images] == ["study:s", "patient:ann"]
        assert held.images[0].findings == ("a", "b")
        assert held.images[0].facts["manufacturer"] == "maker"
        np.testing.assert_allclose(held.vectors, [-one, one], atol=1e-6)
        assert held.model["weights"] == "sha256:1"
        with pytest.raises(UnknownNameError):
            from_index(index, "third")


def test_in_an_index_a_study_is_never_a_patient_nor_a_file(settings: Settings) -> None:
    known = [{"patient": "7"}, {"study": "7"}, {"instance": "7"}, {}, {"patient": "7", "study": "8"}]
    ids = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(5)]
    with open_index(settings, create_for=[MODEL]) as index:
        vector = {"first": np.ones(4, np.float32)}
        index.write(
            [IndexedImage(name, vector, {"models": ["first"], **one}) for name, one in zip(ids, known, strict=True)]
        )
        patients = [image.patient for image in from_index(index, "first").images]
    assert patients == ["patient:7", "study:7", "instance:7", f"image:{ids[3]}", "patient:7"]


@dataclass(frozen=True)
class Pages:
    """An index of these vectors, which it gives one by one with these ids."""

    ids: Sequence[str]
    vectors: np.ndarray
    card: IndexCard
    location: str = "here"

    def require_model(self, name: str) -> None:
        assert name in self.card.models

    def count(self) -> int:
        return len(self.ids)

    def pages(self, *, vectors_of: Sequence[str]) -> Iterator[list[Stored]]:
        for name, vector in zip(self.ids, self.vectors, strict=True):
            yield [Stored(name, {}, dict.fromkeys(vectors_of, vector))]


def in_one_go(vectors: np.ndarray, ids: Sequence[str]) -> np.ndarray:
    """Brought to unit length in double precision, and ordered."""
    rows = vectors.astype(np.float64)[sorted(range(len(ids)), key=lambda row: ids[row])]
    return (rows / np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]).astype(np.float32)


def random_vectors(rows: int, columns: int, kind: type) -> np.ndarray:
    return (np.random.default_rng(5).normal(size=(rows, columns)) * 9).astype(kind)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("rows", [5, 6, 7, 12])  # less than two blocks of six, a block, a row more, two blocks
def test_vectors_are_the_same_as_in_one_go(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, rows: int, kind: type
) -> None:
    monkeypatch.setattr(collection, "_BLOCK_ROWS", 6)
    vectors = random_vectors(rows, 64, kind)
    ids = [f"{number * 5 % 13:02}.png" for number in range(rows)]
    np.save(files[0], vectors)
    files[1].write_text("filepath,patient,modality,region,labels\n" + "".join(f"{name},,,,\n" for name in ids))
    np.testing.assert_array_max_ulp(from_files(*files, "theirs").vectors, in_one_go(vectors, ids), 1)
    for order in (ids, sorted(ids)):
        index = cast("Index", Pages(order, vectors, IndexCard("check", {"first": replace(MODEL, dimension=64)})))
        held = from_index(index, "first")
        assert [image.id for image in held.images] == sorted(ids)
        np.testing.assert_array_max_ulp(held.vectors, in_one_go(vectors.astype(np.float32), order), 1)


def test_vectors_are_held_once_and_not_in_double_precision(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "_BLOCK_ROWS", 20)
    vectors = random_vectors(400, 5000, np.float32)  # 8 MB; blocks of 20 in double precision 0.8 MB
    ids = [f"{number:03}" for number in range(400)]
    np.save(files[0], vectors)
    files[1].write_text("filepath,patient,modality,region,labels\n" + "".join(f"{name},,,,\n" for name in ids[::-1]))
    index = cast("Index", Pages(ids, vectors, IndexCard("check", {"first": replace(MODEL, dimension=5000)})))
    for take in (lambda: from_files(*files, "theirs"), lambda: from_index(index, "first")):
        take()  # what it imports for the first time is not its own
        tracemalloc.start()
        held = take()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert held.vectors.nbytes < most < 1.5 * held.vectors.nbytes


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        (np.zeros((3, 4)), "3 vectors of .* have no direction"),
        (np.where(np.arange(12).reshape(3, 4) == 5, np.nan, 1.0), "1 vectors of .* are not finite"),
        (np.where(np.arange(12).reshape(3, 4) == 5, np.inf, 1.0), "1 vectors of .* are not finite"),
    ],
)
def test_vectors_that_are_no_directions_are_counted(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, vectors: "np.ndarray", said: str
) -> None:
    monkeypatch.setattr(collection, "_BLOCK_ROWS", 2)  # in all blocks together
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
        ("filepath,patient,modality,region\na,7,CT,chest\n", "lacks the column labels"),
        ("filepath,modality,region,labels\na,CT,chest,x\n", "lacks the column patient"),
        (ROWS + "d.png,,,CT,chest,x,,\n", "has 4 rows and .* has 3 vectors"),
        ("", "lacks the columns filepath, patient, modality, region, labels"),
        ("filepath,patient,modality,region,labels\n\x80\n", "is no UTF-8 CSV"),
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


@pytest.mark.parametrize(
    "row",
    [
        "d.png,,,CT,chest,mass, left,train,one",  # a comma that is not quoted
        "d.png,,,CT",
        ",,,CT,chest,mass,train,one",
        "a.png,,,CT,chest,mass,train,one",
        "./a.png,,,CT,chest,mass,train,one",
    ],
)
def test_a_row_of_another_length_or_without_a_file_of_its_own_is_refused(files: tuple[Path, Path], row: str) -> None:
    np.save(files[0], np.ones((4, 2)))
    files[1].write_text(ROWS + row + "\n")
    with pytest.raises(ManifestError, match="row 4"):
        from_files(*files, "theirs")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("MRN4711.png,MRN4711,MRN4711,MRN4711,chest,mass,train,one", "row 4, column modality: .* unknown modality"),
        (",MRN4711,MRN4711,CT,chest,mass,train,one", "row 4, column filepath: .* names no file"),
        ("b.png,MRN4711,MRN4711,CT,chest,MRN4711,train,one", "row 4, column filepath: .* of another row"),
        ("MRN4711.png,MRN4711", "row 4: .* another number of cells"),
    ],
)
def test_a_refused_row_is_said_by_number_and_column_and_no_cell_of_it(
    files: tuple[Path, Path], row: str, said: str
) -> None:
    np.save(files[0], np.ones((4, 2)))
    files[1].write_text(ROWS + row + "\n")
    with pytest.raises(ManifestError, match=said) as caught:
        from_files(*files, "theirs")
    assert "4711" not in str(caught.value)


@pytest.mark.parametrize("array", [np.full((3, 4), 1e300), np.full((3, 4), 1e-30), np.full((3, 4), np.float32(1e25))])
def test_very_long_and_very_short_vectors_are_directions(files: tuple[Path, Path], array: "np.ndarray") -> None:
    np.save(files[0], array)
    if array.dtype == np.float64 and array[0, 0] > 1:
        with pytest.raises(EmbeddingError, match=r"3 vectors of .* are not finite"):
            from_files(*files, "theirs")
    else:
        np.testing.assert_allclose(from_files(*files, "theirs").vectors, 0.5, atol=1e-6)


@pytest.mark.parametrize("header", DAMAGED_HEADERS.values(), ids=DAMAGED_HEADERS)
def test_an_array_with_a_damaged_header_is_refused(files: tuple[Path, Path], header: str) -> None:
    files[0].write_bytes(array_file(header))
    with pytest.raises(SettingsError, match="cannot be read"):
        from_files(*files, "theirs")
