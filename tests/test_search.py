"""Search: the nearest images, without the query itself and its patient, and only where the filter says."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from inline_pool import InlinePool
from PIL import Image
from pydicom.uid import generate_uid
from qdrant_client import QdrantClient
from tiny_models import add_tiny_model, expected_vector, half

from ingest import pipeline
from ingest.pipeline import Ingestion
from ingest.sources import Archive
from ingest.whole import ingest_all
from radsearch.errors import (
    EmbeddingError,
    IndexMismatchError,
    NothingToSearchError,
    UnknownNameError,
    UnreadableImageError,
)
from radsearch.index import Index, granted
from radsearch.index.server import open_collection
from radsearch.models import built_in_models, find_model, fingerprint_of
from radsearch.models.base import Embedder
from radsearch.models.weights import find_weights
from radsearch.privacy import Pseudonymizer
from radsearch.search import Part, QueryFile, Ranking, Searcher, Wanted, rocchio
from radsearch.settings import Settings
from radsearch.study import SearchFilter

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),  # said by the local mode, of itself
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]

# name: patient, study, modality, region, findings
IMAGES = {
    "ann-1": ("ann", "s1", "CT", "chest", "nodule"),
    "ann-2": ("ann", "s2", "CT", "chest", ""),
    "bob": ("bob", "s3", "CR", "chest", "nodule;effusion"),
    "cem": ("cem", "s4", "DX", "hand", "fracture"),
    "dot": ("dot", "s5", "MR", "head", "tumour"),
    "nobody-1": ("", "s6", "US", "liver", ""),
    "nobody-2": ("", "s6", "US", "liver", ""),
}
ALL = Wanted(limit=50)


def square_of(name: str) -> "np.ndarray":
    """An (8, 8) picture of its own for each name; Ann's two are nearly the same."""
    seed = sorted(IMAGES).index(name.replace("ann-2", "ann-1")) if name in IMAGES else len(name) + 100
    square = np.random.default_rng(seed).integers(40, 256, (8, 8), dtype=np.uint8)
    if name == "ann-2":
        square[0, 0] = 255 - square[0, 0]
    return square


@dataclass
class Library:
    """An index in memory, filled from an archive, and the ways to it."""

    folder: Path
    client: QdrantClient
    settings: Settings
    pseudonymizer: Pseudonymizer

    def open(self, *models: str) -> Index:
        specs = [find_model(name) for name in models]
        prints = [fingerprint_of(spec, find_weights(spec, self.settings.models_folder)) for spec in specs]
        index = open_collection(self.client, "library", "memory", create_for=prints)
        index.admit(prints, self.pseudonymizer.check)
        return index

    def ingest(self, *models: str, path: Path | None = None) -> None:
        specs = [find_model(name) for name in models]
        archive = Archive(path) if path else Archive(self.folder, self.folder / "manifest.csv")
        with Ingestion(self.open(*models), specs, self.settings, self.pseudonymizer) as ingestion:
            ingest_all(ingestion, lambda: archive.files(self.pseudonymizer), lambda: None)

    @property
    def searcher(self) -> Searcher:
        return Searcher(self.open(), self.settings, self.pseudonymizer)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.png"

    def id(self, name: str) -> str:
        return self.id_of(self.path(name))

    def id_of(self, path: Path) -> str:
        return self.pseudonymizer.point_id(self.pseudonymizer.pseudonym("instance", str(path)), 1)

    def names(self, hits: "list") -> list[str]:
        known = {self.id(name): name for name in IMAGES}
        return [known.get(hit.id, "another") for hit in hits]

    def vector(self, name: str, model: str = "tiny") -> "np.ndarray":
        return expected_vector(self.settings.models_folder, model, square_of(name))

    def ranked(self, query: "np.ndarray", *without: str) -> list[str]:
        """Names by numpy's cosine to the query."""
        names = [name for name in IMAGES if name not in without]
        return sorted(names, key=lambda name: -float(self.vector(name) @ query))


@pytest.fixture
def library(
    tmp_path: Path,
    settings: Settings,
    pseudonymizer: Pseudonymizer,
    monkeypatch: pytest.MonkeyPatch,
    write_png: Callable[..., Path],
) -> Library:
    monkeypatch.setattr(pipeline, "IsolatedPool", InlinePool)
    add_tiny_model(monkeypatch, tmp_path / "models", "tiny", seed=1, text=True)
    add_tiny_model(monkeypatch, tmp_path / "models", "other", seed=2)
    rows = ["filepath,patient,study,modality,region,labels"]
    for name, (patient, study, modality, region, findings) in IMAGES.items():
        write_png(f"archive/{name}.png", square_of(name))
        rows.append(f"{name}.png,{patient},{study},{modality},{region},{findings}")
    (tmp_path / "archive" / "manifest.csv").write_text("\n".join(rows) + "\n")
    settings = replace(settings, models_folder=tmp_path / "models", device="cpu", model="tiny")
    made = Library(tmp_path / "archive", QdrantClient(":memory:"), settings, pseudonymizer)
    made.ingest("tiny")
    return made


@pytest.fixture
def library_without_model(library: Library, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setattr("radsearch.models.base.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    return library


def test_an_indexed_file_finds_others_without_itself_and_its_patient(library_without_model: Library) -> None:
    hits = library_without_model.searcher.by_image(library_without_model.path("ann-1"), ALL)
    assert library_without_model.names(hits) == library_without_model.ranked(
        library_without_model.vector("ann-1"), "ann-1", "ann-2"
    )
    assert [hit.rank for hit in hits] == list(range(1, len(IMAGES) - 1))


def test_the_same_patient_may_be_allowed_but_never_the_query_itself(library: Library) -> None:
    hits = library.searcher.by_image(library.path("ann-1"), replace(ALL, allow_same_patient=True))
    assert library.names(hits) == library.ranked(library.vector("ann-1"), "ann-1")
    assert library.names(hits)[0] == "ann-2"


def test_an_image_without_patient_does_not_find_its_study(library: Library) -> None:
    hits = library.searcher.by_image(library.path("nobody-1"), ALL)
    assert set(library.names(hits)) == set(IMAGES) - {"nobody-1", "nobody-2"}


def test_a_copy_of_an_indexed_file_is_that_image(library_without_model: Library, tmp_path: Path) -> None:
    copy = Path(shutil.copy(library_without_model.path("ann-1"), tmp_path / "upload.png"))
    assert set(library_without_model.names(library_without_model.searcher.by_image(copy, ALL))) == set(IMAGES) - {
        "ann-1",
        "ann-2",
    }


def test_a_new_file_finds_the_nearest_by_cosine(library: Library, write_png: Callable[..., Path]) -> None:
    query = write_png("upload.png", square_of("stranger"))
    hits = library.searcher.by_image(query, replace(ALL, limit=3))
    assert library.names(hits) == library.ranked(library.vector("stranger"))[:3]
    cosine = [float(library.vector(name) @ library.vector("stranger")) for name in library.names(hits)]
    np.testing.assert_allclose([hit.score for hit in hits], cosine, atol=1e-5)


def test_a_file_that_has_changed_since_does_not_find_its_earlier_self(
    library: Library, write_png: Callable[..., Path]
) -> None:
    write_png("archive/ann-1.png", square_of("stranger"))
    hits = library.searcher.by_image(library.path("ann-1"), ALL)
    assert "ann-1" not in library.names(hits)


def test_a_new_slice_of_a_known_patient_does_not_find_that_patient(
    library: Library, write_dicom: Callable[..., Path]
) -> None:
    known_slice = write_dicom("more/known.dcm")
    write_dicom("more/stranger.dcm", PatientID="MRN-0002")
    library.ingest("tiny", path=known_slice.parent)
    upload = write_dicom("upload.dcm", np.arange(60, 180, dtype=np.int16).reshape(10, 12))
    ct_of_dicom = replace(ALL, where=SearchFilter(modality=("CT",), region=("chest",)))
    known = library.pseudonymizer.pseudonym("patient", "", "MRN-0001")
    stranger = library.pseudonymizer.pseudonym("patient", "", "MRN-0002")
    patients = {hit.facts.patient for hit in library.searcher.by_image(upload, ct_of_dicom)}
    assert stranger in patients
    assert known not in patients
    allowed = library.searcher.by_image(upload, replace(ct_of_dicom, allow_same_patient=True))
    assert known in {hit.facts.patient for hit in allowed}


@pytest.mark.parametrize("indexed", [True, False])
def test_a_file_of_several_frames_is_searched_by_its_middle_one_or_the_one_that_is_named(
    library: Library, write_dicom: Callable[..., Path], *, indexed: bool
) -> None:
    pixels = np.random.default_rng(1).integers(-100, 200, (3, 8, 8)).astype(np.int16)
    path = write_dicom("more/cine.dcm", pixels)
    squares = [write_dicom(f"frame-{n}.dcm", pixels[n - 1]) for n in (1, 2, 3)]
    if indexed:
        library.ingest("tiny", path=path.parent)
    searcher = library.searcher
    without_dicom = replace(ALL, where=SearchFilter(modality=("CR", "DX", "MR", "US")))
    by_frame = [searcher.by_image(square, without_dicom) for square in squares]

    def scores(hits: "list") -> list[float]:
        return [round(hit.score, 4) for hit in hits]

    assert scores(searcher.by_image(path, without_dicom)) == scores(by_frame[1])
    assert scores(searcher.by_image(path, without_dicom, frame=3)) == scores(by_frame[2])
    assert path.name not in str(searcher.by_image(path, ALL))
    with pytest.raises(NothingToSearchError, match="no frame 4"):
        searcher.by_image(path, ALL, frame=4)


def test_by_id_is_by_image_of_the_indexed_file(library: Library) -> None:
    searcher = library.searcher
    assert searcher.by_id(library.id("bob"), ALL) == searcher.by_image(library.path("bob"), ALL)


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ("6a1c7e6e-0000-4000-8000-000000000000", "no indexed image 6a1c7e6e"),
        ("bob.png", "is no id of an indexed image"),
    ],
)
def test_an_id_that_is_none_is_an_error(library: Library, point: str, words: str) -> None:
    with pytest.raises(NothingToSearchError, match=words):
        library.searcher.by_id(point, ALL)


def test_an_id_may_be_written_as_any_uuid(library: Library) -> None:
    point, searcher = library.id("bob"), library.searcher
    for written in (point.upper(), point.replace("-", ""), "{" + point + "}", point.replace("-", "", 2)):
        assert searcher.by_id(written, ALL) == searcher.by_id(point, ALL)
        assert searcher.like([point], [written], ALL)


def test_liked_and_disliked_examples_make_rocchios_query(library: Library) -> None:
    liked, disliked = ["bob", "cem"], ["dot"]
    query = library.vector("bob") + library.vector("cem") - library.vector("dot")  # 2 x the mean of two, less one
    hits = library.searcher.like([library.id(name) for name in liked], [library.id("dot")], ALL)
    assert library.names(hits) == library.ranked(query, *liked, *disliked)
    expected = [float(library.vector(name) @ query / np.linalg.norm(query)) for name in library.names(hits)]
    np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-5)


def test_the_examples_patients_are_left_out(library: Library) -> None:
    hits = library.searcher.like([library.id("bob")], [library.id("ann-1")], ALL)
    assert set(library.names(hits)) == set(IMAGES) - {"bob", "ann-1", "ann-2"}


def test_rocchio_by_hand() -> None:
    liked = np.array([[1, 0], [0, 1]], np.float32)
    np.testing.assert_allclose(rocchio(liked, None), [0.5**0.5, 0.5**0.5], atol=1e-6)
    np.testing.assert_allclose(rocchio(liked, np.array([[0, -1]], np.float32)), [1 / 5**0.5, 2 / 5**0.5], atol=1e-6)


def test_examples_that_cancel_out_are_an_error() -> None:
    with pytest.raises(NothingToSearchError, match="cancel"):
        rocchio(np.array([[1, 0], [-1, 0]], np.float32), None)


def test_nothing_liked_is_an_error(library: Library) -> None:
    with pytest.raises(NothingToSearchError, match="at least one that is liked"):
        library.searcher.like([], [library.id("bob")], ALL)


def test_a_text_finds_the_picture_that_it_names(library: Library, write_png: Callable[..., Path]) -> None:
    left = write_png("more/left.png", (half("left") * 255).astype(np.uint8))
    library.ingest("tiny", path=left.parent)
    (hit,) = library.searcher.by_text("left", Wanted(limit=1))
    assert hit.score == pytest.approx(1.0, abs=1e-5)
    assert hit.id == library.id_of(left)


def test_hits_of_a_text_are_reranked_and_may_move_it(library: Library) -> None:
    searcher = library.searcher
    plain = searcher.by_text("left", ALL)
    voted = searcher.by_text("left", replace(ALL, ranking=Ranking(rerank="votes")))
    assert {hit.id: hit.score for hit in voted} == {hit.id: hit.score for hit in plain}
    moved = searcher.by_text("left", replace(ALL, ranking=Ranking(expand=1)))
    assert moved[0].id == plain[0].id
    assert moved[0].score > plain[0].score


def test_words_find_nothing_in_data_sets_that_are_not_granted(library: Library) -> None:
    searcher = Searcher(granted(library.open(), ["others"]), library.settings)
    assert library.searcher.by_text("hand", ALL)
    assert searcher.by_text("hand", ALL) == searcher.by_finding("hand", ALL) == []


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (SearchFilter(), "a radiology image showing left"),
        (SearchFilter(modality=("XR",), region=("chest",)), "a chest X-ray showing left"),
        (SearchFilter(modality=("XR", "CR"), region=("chest",)), "a chest radiology image showing left"),
    ],
)
def test_a_finding_is_said_with_the_modality_and_the_region_that_the_filter_leaves(
    library: Library, monkeypatch: pytest.MonkeyPatch, where: SearchFilter, said: str
) -> None:
    heard: list[str] = []
    embed_texts = Embedder.embed_texts
    monkeypatch.setattr(Embedder, "embed_texts", lambda self, texts: heard.extend(texts) or embed_texts(self, texts))
    hits = library.searcher.by_finding("left", Wanted(limit=3, where=where))
    assert said in heard
    assert "left" in heard
    assert hits


def test_a_text_for_a_model_without_one_is_answered_with_those_that_have(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.ingest("other")
    asked = replace(ALL, models=("other",))
    with pytest.raises(EmbeddingError, match="other cannot read text; of this index's models these can: tiny"):
        library.searcher.by_text("left", asked)
    monkeypatch.setitem(built_in_models(), "tiny", replace(built_in_models()["tiny"], text=False))
    speaking = [name for name, spec in built_in_models().items() if spec.text]
    with pytest.raises(EmbeddingError, match=f"other cannot read text; these can: {', '.join(speaking)}"):
        library.searcher.by_finding("left", asked)


def test_an_empty_text_is_an_error(library: Library) -> None:
    with pytest.raises(NothingToSearchError, match="text"):
        library.searcher.by_text("  ", ALL)
    with pytest.raises(NothingToSearchError, match="text"):
        library.searcher.by_finding("", ALL)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (SearchFilter(modality=("XR",)), {"bob", "cem"}),
        (SearchFilter(modality=("CR",)), {"bob"}),
        (SearchFilter(region=("chest",)), {"bob"}),
        (SearchFilter(pathology=("nodule", "tumour")), {"bob", "dot"}),
        (SearchFilter(pathology_none=("nodule",)), {"cem", "dot", "nobody-1", "nobody-2"}),
    ],
)
def test_a_filter_holds_beside_the_exclusion_of_the_patient(
    library: Library, where: SearchFilter, expected: set[str]
) -> None:
    hits = library.searcher.by_image(library.path("ann-1"), replace(ALL, where=where))
    assert set(library.names(hits)) == expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            SearchFilter(modality=("CTT",)),
            "unknown modality 'CTT' (did you mean 'CT'?); the index memory holds: CR, CT, DX, MR, US, XR",
        ),
        (
            SearchFilter(region=("brain",)),
            "unknown region 'brain'; the index memory holds: chest, hand, head, liver",
        ),
        (
            SearchFilter(pathology_none=("nodul",)),
            "unknown pathology 'nodul' (did you mean 'nodule'?); the index memory holds: "  # noqa: ISC004 -- one text
            "effusion, fracture, nodule, tumour",
        ),
        (SearchFilter(dataset=("any",)), "unknown dataset 'any'; the index memory holds: none"),
    ],
)
def test_a_value_that_no_image_has_is_answered_with_those_that_there_are(
    library: Library, where: SearchFilter, message: str
) -> None:
    with pytest.raises(UnknownNameError) as caught:
        library.searcher.by_image(library.path("bob"), replace(ALL, where=where))
    assert str(caught.value) == message


def test_a_model_that_nobody_knows_is_answered_with_the_table(library: Library) -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown model 'tini' \(did you mean 'tiny'\?\); known are: biomedclip"
    ):
        library.searcher.by_id(library.id("bob"), replace(ALL, models=("tini",)))


def test_a_model_that_the_index_lacks_is_answered_with_those_that_it_holds(library: Library) -> None:
    with pytest.raises(
        NothingToSearchError, match=r"holds no vectors of other \(its models: tiny\); add them with: python"
    ):
        library.searcher.by_id(library.id("bob"), replace(ALL, models=("other",)))


def test_the_indexs_only_model_is_taken_where_none_is_named(library: Library) -> None:
    searcher = Searcher(library.open(), replace(library.settings, model="efficientnet-lite0"), library.pseudonymizer)
    assert len(searcher.by_id(library.id("bob"), ALL)) == len(IMAGES) - 1


def test_several_models_are_fused(library: Library) -> None:
    library.ingest("other")
    searcher = library.searcher
    both = replace(ALL, models=("tiny", "other"))
    hits = searcher.by_id(library.id("bob"), both)
    places: dict[str, float] = dict.fromkeys(library.names(hits), 0.0)
    for model in ("tiny", "other"):
        ranked = library.names(searcher.by_id(library.id("bob"), replace(ALL, models=(model,))))
        for place, name in enumerate(ranked):
            places[name] += 1 / (60 + place)
    assert [round(hit.score, 6) for hit in hits] == sorted((round(s, 6) for s in places.values()), reverse=True)
    assert searcher.by_image(library.path("bob"), both) == hits


def test_an_image_without_vector_of_the_model_cannot_be_an_example(
    library: Library, write_png: Callable[..., Path]
) -> None:
    new = write_png("more/new.png", square_of("stranger"))
    library.ingest("other", path=new.parent)
    with pytest.raises(NothingToSearchError, match=f"no indexed image {library.id_of(new)} with a vector of tiny"):
        library.searcher.by_id(library.id_of(new), replace(ALL, models=("tiny",)))


def test_weights_that_have_changed_since_are_refused(library: Library, write_png: Callable[..., Path]) -> None:
    models_folder = library.settings.models_folder
    shutil.copy(models_folder / "other" / "weights.pth", models_folder / "tiny" / "weights.pth")
    with pytest.raises(IndexMismatchError, match="the vectors of tiny"):
        library.searcher.by_image(write_png("upload.png"), ALL)
    with pytest.raises(IndexMismatchError, match="the vectors of tiny"):
        library.searcher.by_text("left", ALL)
    assert library.searcher.by_id(library.id("bob"), ALL)


def test_a_file_that_is_no_picture_is_an_error(library: Library, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("to be read by nobody")
    with pytest.raises(UnreadableImageError, match="not an image"):
        library.searcher.by_image(tmp_path / "notes.txt", ALL)
    with pytest.raises(FileNotFoundError):
        library.searcher.by_image(tmp_path / "missing.png", ALL)


def test_a_search_by_file_needs_the_secret(library: Library) -> None:
    with pytest.raises(NothingToSearchError, match="secret"):
        Searcher(library.open(), library.settings).by_image(library.path("bob"), ALL)


def test_a_part_of_a_picture_is_a_query_of_its_own_without_the_picture_and_its_patient(library: Library) -> None:
    """Also where the file is indexed: its stored vector is that of all of it."""
    big = np.zeros((16, 32), np.uint8)
    big[4:12, 8:16] = square_of("dot")
    path = library.folder.parent / "big.png"
    Image.fromarray(big).save(path)
    file = QueryFile(path, library.settings, library.pseudonymizer)
    part = file.cut(Part(0.25, 0.25, 0.5, 0.75))
    hits = library.searcher.by_files([part], ALL)
    assert library.names(hits)[0] == "dot"
    assert hits[0].score == pytest.approx(1.0, abs=1e-5)
    assert file.cut(Part(0.25, 0.25, 0.5, 0.75)) is part

    indexed = QueryFile(library.path("ann-1"), library.settings, library.pseudonymizer)
    library.settings = replace(library.settings)
    names = library.names(library.searcher.by_files([indexed.cut(Part(0, 0, 1, 1))], ALL))
    assert not {"ann-1", "ann-2"} & set(names)
    assert names == library.ranked(library.vector("ann-1"), "ann-1", "ann-2")


def test_a_part_that_is_hardly_there_is_an_error(library: Library) -> None:
    file = QueryFile(library.path("ann-1"), library.settings, library.pseudonymizer)
    with pytest.raises(NothingToSearchError, match="8 pixels"):
        file.cut(Part(0, 0, 0.5, 1))


def volume(library: Library, write_dicom: Callable[..., Path], name: str, seed: int, patient: str) -> list[Path]:
    """Three slices of one series in files of their own, ingested; pictures by the seed."""
    rng, series = np.random.default_rng(seed), generate_uid()
    paths = [
        write_dicom(
            f"{name}/{number}.dcm",
            rng.integers(-100, 200, (8, 8)).astype(np.int16),
            PatientID=patient,
            SeriesInstanceUID=series,
        )
        for number in range(3)
    ]
    library.ingest("tiny", path=paths[0].parent)
    return paths


def test_files_of_a_series_find_series_of_others_as_the_indexed_series_does(
    library: Library, write_dicom: Callable[..., Path]
) -> None:
    paths = volume(library, write_dicom, "query", 1, "MRN-1")
    own = volume(library, write_dicom, "own", 2, "MRN-1")
    others = [volume(library, write_dicom, f"other-{seed}", seed, f"MRN-{seed}") for seed in (3, 4)]
    searcher = library.searcher

    def series_of(path: Path) -> str | None:
        return QueryFile(path, library.settings, library.pseudonymizer).shown.facts.series

    hits = searcher.by_slices(paths, ALL)
    assert {hit.facts.series for hit in hits} == {series_of(other[0]) for other in others}
    assert hits == searcher.by_series(str(series_of(paths[0])), ALL)
    allowed = searcher.by_slices(paths, replace(ALL, allow_same_patient=True))
    assert {hit.facts.series for hit in allowed} == {series_of(other[0]) for other in (own, *others)}
    with pytest.raises(NothingToSearchError, match="of several series"):
        searcher.by_slices([paths[0], own[0]], ALL)


def test_the_frames_of_one_file_are_the_slices_of_a_series(library: Library, write_dicom: Callable[..., Path]) -> None:
    pixels = np.random.default_rng(3).integers(-100, 200, (3, 8, 8)).astype(np.int16)
    whole = write_dicom("new/whole.dcm", pixels, PatientID="MRN-9")
    volume(library, write_dicom, "known", 3, "MRN-3")  # the same three pictures, by the seed
    volume(library, write_dicom, "stranger", 4, "MRN-4")
    hits = library.searcher.by_slices([whole], ALL)
    assert len(hits) == 2
    assert hits[0].score == pytest.approx(1.0, abs=1e-4)
    assert hits[0].facts.patient == library.pseudonymizer.pseudonym("patient", "", "MRN-3")
    assert hits[1].score < 0.999
