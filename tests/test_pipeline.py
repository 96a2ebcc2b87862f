"""The pipeline: what becomes of every file, and of what the index held of it before."""

import json
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from inline_pool import InlinePool
from pydicom.uid import generate_uid
from qdrant_client import QdrantClient
from tiny_models import add_tiny_model, expected_vector

from ingest import pipeline
from ingest.pipeline import Ingestion
from ingest.report import Summary, summarise
from ingest.sources import Archive
from ingest.whole import ingest_all
from radsearch.catalogue import Catalogue
from radsearch.errors import DiskFullError, IndexMismatchError, ModelUnavailableError, UnreadableImageError
from radsearch.index import Index, IndexedImage, Stored, open_index
from radsearch.index.server import open_collection
from radsearch.models import ModelSpec, find_model, fingerprint_of
from radsearch.models.base import Embedder
from radsearch.models.inputs import Batch
from radsearch.models.weights import find_weights
from radsearch.privacy import Pseudonymizer
from radsearch.reading import identify, read
from radsearch.reading.isolation import IsolatedPool
from radsearch.rendering import render
from radsearch.settings import Settings
from radsearch.study import Fingerprint, SearchFilter
from radsearch.thumbnails import Thumbnails, thumbnail_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),  # said by the local mode, of itself
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]


class OneAtATime(QdrantClient):
    """The client's local mode, which a write and a scroll at once put out of step; the real engines are not."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        lock = threading.RLock()
        for name in ("batch_update_points", "set_payload", "delete", "scroll", "retrieve", "count"):
            setattr(self, name, _behind(lock, getattr(self, name)))


def _behind(lock: "threading.RLock", method: Callable[..., object]) -> Callable[..., object]:
    def call(*given: object, **named: object) -> object:
        with lock:
            return method(*given, **named)

    return call


Outcomes = dict[str, tuple[str, str | None]]
SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.11"


@dataclass
class Room:
    """An archive, an index in memory and a way to take the one into the other."""

    archive: Path
    client: QdrantClient
    settings: Settings
    pseudonymizer: Pseudonymizer

    def fingerprint(self, name: str) -> Fingerprint:
        spec = find_model(name)
        return fingerprint_of(spec, find_weights(spec, self.settings.models_folder))

    def index(self, *models: str) -> Index:
        prints = [self.fingerprint(name) for name in models]
        index = open_collection(self.client, "room", "memory", create_for=prints)
        index.admit(prints, self.pseudonymizer.check)
        return index

    def begin(self, *models: str) -> Ingestion:
        specs = [find_model(name) for name in models]
        return Ingestion(self.index(*models), specs, self.settings, self.pseudonymizer)

    def ingest(self, *models: str, **archive: object) -> "tuple[Summary, Outcomes]":
        source = Archive(archive.pop("path", self.archive), **archive)
        models = models or ("tiny",)
        with self.begin(*models) as ingestion:
            ingestion.known_only = source.known_only
            ingest_all(ingestion, lambda: source.files(self.pseudonymizer), lambda: None)
            summary = summarise(ingestion.accounts, [self.fingerprint(name) for name in models], 1.0)
            listed = list(ingestion.accounts.files())
        files = {file: (outcome, reason) for file, outcome, reason in listed}
        assert summary.found == len(listed) == len(files)
        parts = [summary.indexed, summary.unchanged, *summary.skipped.values(), *summary.refused.values()]
        assert summary.found == sum(parts)
        return summary, files

    def points(self) -> dict[str, Stored]:
        records, _ = self.client.scroll("room", limit=1000, with_payload=True, with_vectors=True)
        return {str(record.id): Stored(str(record.id), record.payload, record.vector) for record in records}

    @property
    def thumbnails(self) -> Thumbnails:
        return Thumbnails(Path(self.settings.index) / "thumbnails")

    def forget_thumbnails(self) -> None:
        """Make the points those of an ingest before there were thumbnails."""
        self.client.delete_payload("room", keys=["thumbnail"], points=list(self.points()))
        shutil.rmtree(self.thumbnails.folder)

    def only_point(self) -> Stored:
        (stored,) = self.points().values()
        return stored


@pytest.fixture
def room(tmp_path: Path, settings: Settings, pseudonymizer: Pseudonymizer, monkeypatch: pytest.MonkeyPatch) -> Room:
    """Reads in threads, not in processes: starting those takes a second, and only one test is about them."""
    monkeypatch.setattr(pipeline, "IsolatedPool", InlinePool)
    models_folder = tmp_path / "models"
    add_tiny_model(monkeypatch, models_folder, "tiny", seed=1)
    add_tiny_model(monkeypatch, models_folder, "other", seed=2)
    (tmp_path / "archive").mkdir()
    settings = replace(settings, models_folder=models_folder, device="cpu")
    return Room(tmp_path / "archive", OneAtATime(), settings, pseudonymizer)


@pytest.fixture
def mixed(room: Room, write_png: Callable[..., Path], write_dicom: Callable[..., Path]) -> Room:
    """Two good images among a text, a truncated DICOM, a structured report and a file of no bytes."""
    write_png("archive/good.png")
    whole = write_dicom("archive/good.dcm").read_bytes()
    (room.archive / "notes.txt").write_text("to be read by nobody")
    (room.archive / "cut.dcm").write_bytes(whole[:-40])
    write_dicom("archive/report.dcm", SOPClassUID=SR_CLASS, PixelData=None, Rows=None, Columns=None)
    (room.archive / "empty.dcm").touch()
    cut_off = write_dicom("archive/cut.dcm").read_bytes()[:-40]
    (room.archive / "cut.dcm").write_bytes(cut_off)
    return room


def test_every_file_has_exactly_one_outcome_with_its_reason(mixed: Room) -> None:
    summary, files = mixed.ingest()
    assert files == {
        "good.png": ("indexed", None),
        "good.dcm": ("indexed", None),
        "notes.txt": ("skipped", "not an image"),
        "report.dcm": ("skipped", "no picture: structured report"),
        "empty.dcm": ("refused", "empty file"),
        "cut.dcm": ("refused", "truncated file"),
    }
    assert (summary.found, summary.indexed, summary.images, summary.exit_code) == (6, 2, 2, 1)
    assert len(mixed.points()) == 2


def test_a_second_run_finds_all_unchanged_and_loads_no_model(mixed: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed.ingest()
    before = {name: point.payload for name, point in mixed.points().items()}
    (mixed.archive / "cut.dcm").unlink()
    monkeypatch.setattr("radsearch.models.base.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    summary, files = mixed.ingest()
    assert (summary.indexed, summary.unchanged, summary.images) == (0, 2, 0)
    assert files["good.dcm"] == files["good.png"] == ("unchanged", None)
    assert {name: point.payload for name, point in mixed.points().items()} == before


def test_the_vector_of_a_file_is_that_of_its_rendered_picture(room: Room, write_png: Callable[..., Path]) -> None:
    square = np.arange(64, dtype=np.uint8).reshape(8, 8)
    write_png("archive/image.png", square)
    room.ingest()
    expected = expected_vector(room.settings.models_folder, "tiny", square)
    np.testing.assert_allclose(room.only_point().vectors["tiny"], expected, atol=1e-5)


def test_a_changed_file_is_indexed_again_under_its_id(room: Room, write_png: Callable[..., Path]) -> None:
    write_png("archive/image.png", seed=1)
    write_png("archive/another.png", seed=2)
    room.ingest()
    before = room.points()
    write_png("archive/image.png", seed=3)
    _, files = room.ingest()
    assert files == {"image.png": ("indexed", None), "another.png": ("unchanged", None)}
    after = room.points()
    assert set(after) == set(before)
    changed = [name for name in after if after[name].payload["content"] != before[name].payload["content"]]
    assert len(changed) == 1
    assert not np.allclose(after[changed[0]].vectors["tiny"], before[changed[0]].vectors["tiny"], atol=1e-3)


def test_a_new_label_in_the_manifest_changes_the_payload_and_not_the_vector(
    room: Room, write_png: Callable[..., Path]
) -> None:
    write_png("archive/image.png")
    manifest = room.archive / "manifest.csv"
    manifest.write_text("filepath,patient,modality,region,labels\nimage.png,7,DX,Chest,nodule\n")
    room.ingest(manifest=manifest)
    before = room.only_point()
    manifest.write_text("filepath,patient,modality,region,labels\nimage.png,7,DX,Chest,nodule;effusion\n")
    assert room.ingest(manifest=manifest)[1] == {"image.png": ("indexed", None)}
    after = room.only_point()
    assert after.id == before.id
    np.testing.assert_allclose(after.vectors["tiny"], before.vectors["tiny"], atol=1e-6)
    assert before.payload["pathology"] == ["nodule"]
    assert after.payload["pathology"] == ["nodule", "effusion"]
    assert after.payload["label_path"] == ["XR/chest/nodule", "XR/chest/effusion"]
    assert room.ingest(manifest=manifest)[1] == {"image.png": ("unchanged", None)}


def test_a_label_taken_away_in_the_manifest_is_gone_from_the_payload(
    room: Room, write_png: Callable[..., Path]
) -> None:
    write_png("archive/image.png")
    manifest = room.archive / "manifest.csv"
    manifest.write_text("filepath,patient,modality,region,labels,sex\nimage.png,7,DX,chest,nodule,F\n")
    room.ingest(manifest=manifest)
    manifest.write_text("filepath,patient,modality,region,labels,sex\nimage.png,7,DX,chest,,\n")
    room.ingest(manifest=manifest)
    payload = room.only_point().payload
    assert not {"pathology", "label_path", "sex"} & set(payload)


def test_a_model_added_later_keeps_the_first_ones_vectors(mixed: Room) -> None:
    mixed.ingest("tiny")
    before = mixed.points()
    summary, _ = mixed.ingest("other")
    assert summary.indexed == 2
    after = mixed.points()
    assert set(after) == set(before)
    for name, point in after.items():
        assert set(point.vectors) == {"tiny", "other"}
        np.testing.assert_allclose(point.vectors["tiny"], before[name].vectors["tiny"], atol=1e-6)
        assert point.payload == {**before[name].payload, "models": ["other", "tiny"]}
    for models in (("tiny",), ("other",), ("tiny", "other")):
        assert mixed.ingest(*models)[0].unchanged == 2


def test_two_models_at_once_give_what_they_give_alone(room: Room, write_png: Callable[..., Path]) -> None:
    square = np.random.default_rng(5).integers(0, 256, (8, 8), dtype=np.uint8)
    write_png("archive/image.png", square)
    room.ingest("tiny", "other")
    vectors = room.only_point().vectors
    for name in ("tiny", "other"):
        np.testing.assert_allclose(vectors[name], expected_vector(room.settings.models_folder, name, square), atol=1e-5)


def test_changed_content_takes_the_vectors_of_models_that_did_not_see_it(
    room: Room, write_png: Callable[..., Path]
) -> None:
    write_png("archive/image.png", seed=1)
    room.ingest("tiny", "other")
    write_png("archive/image.png", seed=2)
    room.ingest("tiny")
    point = room.only_point()
    assert set(point.vectors) == {"tiny"}
    assert point.payload["models"] == ["tiny"]
    assert room.ingest("tiny", "other")[0].indexed == 1


def frames(number: int, seed: int = 0) -> "np.ndarray":
    return np.random.default_rng(seed).integers(-100, 100, (number, 10, 12)).astype(np.int16)


def test_a_file_of_several_frames_gives_a_point_a_frame(room: Room, write_dicom: Callable[..., Path]) -> None:
    write_dicom("archive/cine.dcm", frames(3))
    summary, files = room.ingest()
    assert files == {"cine.dcm": ("indexed", None)}
    assert summary.images == 3
    payloads = [point.payload for point in room.points().values()]
    assert sorted(payload["frame"] for payload in payloads) == [1, 2, 3]
    assert {payload["frames"] for payload in payloads} == {3}
    assert len({payload["instance"] for payload in payloads}) == 1


@pytest.mark.parametrize("later", [1, 2, 4])
def test_a_file_with_other_frames_than_before_leaves_no_stale_point(
    room: Room, write_dicom: Callable[..., Path], later: int
) -> None:
    uid = generate_uid()
    write_dicom("archive/cine.dcm", frames(3), SOPInstanceUID=uid)
    room.ingest()
    write_dicom("archive/cine.dcm", frames(later, seed=1), SOPInstanceUID=uid)
    room.ingest()
    payloads = [point.payload for point in room.points().values()]
    assert sorted(payload["frame"] for payload in payloads) == list(range(1, later + 1))
    assert {payload["frames"] for payload in payloads} == {later}
    assert room.ingest()[0].unchanged == 1


def frames_of(room: Room) -> list[tuple[int, int]]:
    return sorted((point.payload["frame"], point.payload["frames"]) for point in room.points().values())


def test_of_a_cine_a_few_evenly_spaced_frames_are_taken(room: Room, write_dicom: Callable[..., Path]) -> None:
    """The middles of four parts of five frames each."""
    write_dicom(
        "archive/cine.dcm", np.arange(20 * 64, dtype=np.int16).reshape(20, 8, 8), Modality="US", BurnedInAnnotation="NO"
    )
    room.settings = replace(room.settings, cine_frames=4)
    summary, _ = room.ingest()
    assert (summary.indexed, summary.images) == (1, 4)
    assert frames_of(room) == [(3, 20), (8, 20), (13, 20), (18, 20)]
    assert room.ingest()[0].unchanged == 1


def test_another_choice_of_frames_takes_the_old_ones_away_and_keeps_the_labels(
    room: Room, write_dicom: Callable[..., Path]
) -> None:
    path = write_dicom(
        "archive/cine.dcm", np.arange(20 * 64, dtype=np.int16).reshape(20, 8, 8), Modality="US", BurnedInAnnotation="NO"
    )
    manifest = room.archive / "labels.csv"
    manifest.write_text(f"filepath,patient,modality,region,labels\n{path.name},p,US,heart,effusion\n")
    room.settings = replace(room.settings, cine_frames=4)
    room.ingest(manifest=manifest)
    room.settings = replace(room.settings, cine_frames=2)
    assert room.ingest(manifest=manifest)[0].indexed == 1
    assert frames_of(room) == [(6, 20), (16, 20)]
    room.settings = replace(room.settings, cine_frames=0)
    assert room.ingest(manifest=manifest)[0].images == 20
    assert frames_of(room) == [(number, 20) for number in range(1, 21)]
    assert {tuple(point.payload["pathology"]) for point in room.points().values()} == {("effusion",)}


@pytest.mark.parametrize(("before", "after"), [(4, 2), (4, 0), (0, 4)])
def test_another_choice_without_the_manifest_keeps_its_labels_and_other_models(
    room: Room, write_dicom: Callable[..., Path], before: int, after: int
) -> None:
    path = write_dicom(
        "archive/cine.dcm", np.arange(20 * 64, dtype=np.int16).reshape(20, 8, 8), Modality="US", BurnedInAnnotation="NO"
    )
    manifest = room.archive / "labels.csv"
    manifest.write_text(f"filepath,patient,modality,region,labels\n{path.name},p,US,heart,effusion\n")
    room.settings = replace(room.settings, cine_frames=before)
    room.ingest("tiny", "other", manifest=manifest)
    manifest.unlink()
    first = room.points()
    room.settings = replace(room.settings, cine_frames=after)
    assert room.ingest("tiny")[0].indexed == 1
    now = room.points()
    assert len(now) == (after or 20)
    assert {tuple(point.payload["pathology"]) for point in now.values()} == {("effusion",)}
    assert {point.payload["patient"] for point in now.values()} == {
        point.payload["patient"] for point in first.values()
    }
    for name, point in now.items():
        assert point.payload["models"] == (["other", "tiny"] if name in first else ["tiny"])
        assert ("other" in point.vectors) == (name in first)
    assert room.ingest("tiny")[0].unchanged == 1


def test_a_manifest_taken_again_has_its_say_again(room: Room, write_dicom: Callable[..., Path]) -> None:
    """A run without it said another data set in between."""
    path = write_dicom("archive/slice.dcm")
    manifest = room.archive / "labels.csv"
    manifest.write_text(f"filepath,patient,modality,region,labels,dataset\n{path.name},p,CT,chest,nodule,first\n")
    room.ingest(manifest=manifest)
    room.ingest(path=path, dataset="second")
    assert (room.only_point().payload["dataset"], room.only_point().payload["pathology"]) == ("second", ["nodule"])
    assert room.ingest(path=path, dataset="second")[0].unchanged == 1
    room.ingest(manifest=manifest)
    assert room.only_point().payload["dataset"] == "first"
    assert room.ingest(manifest=manifest)[0].unchanged == 1


def test_a_cine_replaced_by_a_shorter_one_leaves_no_frame_behind(room: Room, write_dicom: Callable[..., Path]) -> None:
    """None of the new file's frames was in the index before: the old ones are found by the instance."""
    uid = generate_uid()
    cine = np.arange(20 * 64, dtype=np.int16).reshape(20, 8, 8)
    room.settings = replace(room.settings, cine_frames=4)
    write_dicom("archive/cine.dcm", cine, Modality="US", BurnedInAnnotation="NO", SOPInstanceUID=uid)
    room.ingest()
    write_dicom("archive/cine.dcm", cine[:2], Modality="US", BurnedInAnnotation="NO", SOPInstanceUID=uid)
    room.ingest()
    assert frames_of(room) == [(1, 2), (2, 2)]
    assert room.ingest()[0].unchanged == 1


def test_the_frames_of_a_volume_are_all_taken_unless_limited(room: Room, write_dicom: Callable[..., Path]) -> None:
    write_dicom("archive/volume.dcm", np.arange(20 * 64, dtype=np.int16).reshape(20, 8, 8), Modality="MR")
    assert room.ingest()[0].images == 20
    room.settings = replace(room.settings, volume_frames=1)
    room.ingest()
    assert frames_of(room) == [(11, 20)]


def test_a_file_with_one_damaged_frame_is_refused_as_a_whole(room: Room, write_dicom: Callable[..., Path]) -> None:
    whole = write_dicom("archive/cine.dcm", frames(3))
    whole.write_bytes(whole.read_bytes()[:-50])
    write_dicom("archive/good.dcm")
    _, files = room.ingest()
    assert files == {"cine.dcm": ("refused", "truncated file"), "good.dcm": ("indexed", None)}
    assert len(room.points()) == 1


def test_of_two_files_of_one_instance_the_first_is_taken_and_the_other_skipped(
    room: Room, write_dicom: Callable[..., Path]
) -> None:
    first = write_dicom("archive/a.dcm", SOPInstanceUID="1.2.3.4")
    shutil.copy(first, room.archive / "b.dcm")
    write_dicom("archive/c.dcm", frames(1)[0], SOPInstanceUID="1.2.3.4")
    for expected in ("indexed", "unchanged"):
        summary, files = room.ingest()
        assert files == {
            "a.dcm": (expected, None),
            "b.dcm": ("skipped", "copy of another file"),
            "c.dcm": ("skipped", "SOP Instance UID of another file, with other content"),
        }
        assert summary.exit_code == 0
    assert len(room.points()) == 1


def test_a_readable_file_takes_the_place_of_an_unreadable_one_of_its_instance(
    room: Room, write_dicom: Callable[..., Path]
) -> None:
    cut_off = write_dicom("archive/a.dcm", SOPInstanceUID="1.2.3.4")
    cut_off.write_bytes(cut_off.read_bytes()[:-40])
    shutil.copy(cut_off, room.archive / "b.dcm")
    write_dicom("archive/c.dcm", SOPInstanceUID="1.2.3.4")
    write_dicom("archive/d.dcm", SOPInstanceUID="1.2.3.4")
    _, files = room.ingest()
    assert files["a.dcm"] == files["b.dcm"] == ("refused", "truncated file")
    assert files["c.dcm"] == ("indexed", None)
    assert files["d.dcm"] == ("skipped", "SOP Instance UID of another file, with other content")
    assert len(room.points()) == 1


def test_two_pngs_of_the_same_bytes_are_two_images(room: Room, write_png: Callable[..., Path]) -> None:
    write_png("archive/one/image.png", seed=1)
    write_png("archive/two/image.png", seed=1)
    assert room.ingest()[0].indexed == 2
    assert len(room.points()) == 2


def test_an_archive_of_a_named_data_set_may_move(room: Room, write_png: Callable[..., Path]) -> None:
    write_png("archive/deep/image.png")
    room.ingest(dataset="scans")
    moved = room.archive.with_name("moved")
    room.archive.rename(moved)
    assert room.ingest(path=moved, dataset="scans")[1] == {"deep/image.png": ("unchanged", None)}
    assert room.ingest(path=moved, dataset="another")[1] == {"deep/image.png": ("indexed", None)}
    assert len(room.points()) == 2


def test_a_model_that_does_not_load_is_tried_once_and_ends_the_run(
    room: Room, write_png: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several chunks are under way, and each needs it."""
    for number in range(4):
        write_png(f"archive/{number}.png", seed=number)
    monkeypatch.setattr(pipeline, "CHUNK_FILES", 1)
    tries: list[str] = []

    def load_model(spec: ModelSpec, **_named: object) -> Embedder:
        tries.append(spec.name)
        time.sleep(0.2)  # the other chunks come to wait for it
        raise ModelUnavailableError("the weights of tiny do not fit")

    monkeypatch.setattr("radsearch.models.base.load_model", load_model)
    with pytest.raises(ModelUnavailableError, match="do not fit"):
        room.ingest()
    assert tries == ["tiny"]


def test_a_picture_that_the_device_has_not_the_memory_for_is_refused_alone(
    room: Room, write_png: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        write_png(f"archive/{number}.png", seed=number)
    write_png("archive/white.png", np.full((9, 9), 255, np.uint8))
    features = Embedder._features

    def short_of_memory(embedder: Embedder, batch: Batch) -> torch.Tensor:
        if (batch.pixels == 1).all(dim=(1, 2, 3)).any():
            raise torch.OutOfMemoryError
        return features(embedder, batch)

    monkeypatch.setattr(Embedder, "_features", short_of_memory)
    summary, files = room.ingest()
    assert files.pop("white.png") == ("refused", "the device has not the memory for the model and one image")
    assert set(files.values()) == {("indexed", None)}
    assert (summary.indexed, summary.exit_code) == (3, 1)


def test_pictures_that_travel_get_the_vectors_of_those_that_were_resized_before(
    room: Room, write_png: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png("archive/small.png", seed=1)
    write_png("archive/large.png", np.random.default_rng(2).integers(0, 256, (1200, 1000), dtype=np.uint8))
    room.ingest()
    before = {point: stored.vectors["tiny"] for point, stored in room.points().items()}
    room.client.delete_collection("room")
    monkeypatch.setattr(pipeline, "expected_gpus", lambda _: 1)
    came: list[int] = []
    embed_images = Embedder.embed_images
    monkeypatch.setattr(
        Embedder, "embed_images", lambda self, pictures: came.append(len(pictures)) or embed_images(self, pictures)
    )
    room.ingest()
    assert came == [1, 1]  # the test card, and the small one: the large one is resized by the worker all the same
    for point, stored in room.points().items():
        np.testing.assert_allclose(stored.vectors["tiny"], before[point], atol=1e-6)


def test_an_index_keeps_the_precision_that_it_was_built_with(room: Room, write_png: Callable[..., Path]) -> None:
    write_png("archive/one.png")
    room.ingest()
    assert room.index("tiny").card.models["tiny"].precision == "float32"
    other = replace(room.fingerprint("tiny"), precision="bfloat16")
    with pytest.raises(IndexMismatchError, match=r"precision: float32 -> bfloat16.*RADSEARCH_PRECISION to float32"):
        room.index("tiny").check(other)


def test_a_picture_without_usable_vector_is_refused_alone(room: Room, write_png: Callable[..., Path]) -> None:
    for number in range(3):
        write_png(f"archive/{number}.png", seed=number)
    write_png("archive/black.png", np.zeros((9, 9), np.uint8))  # the tiny model has no bias: a vector of no length
    summary, files = room.ingest()
    assert files["black.png"] == ("refused", "the model gave no usable vector")
    assert summary.indexed == 3
    assert len(room.points()) == 3


def test_a_file_that_goes_between_looking_and_reading_is_refused(room: Room, write_png: Callable[..., Path]) -> None:
    gone = write_png("archive/a.png", seed=1)
    write_png("archive/b.png", seed=2)
    with room.begin("tiny") as ingestion:
        archive = Archive(room.archive)
        (chunks,) = [list(chunks) for chunks in ingestion.passes(lambda: archive.files(room.pseudonymizer))]
        gone.unlink()
        assert [ingestion.ingest_chunk(chunk) for chunk in chunks] == [1]
        assert list(ingestion.accounts.files()) == [
            ("a.png", "refused", "file is missing"),
            ("b.png", "indexed", None),
        ]


def test_a_chunk_that_is_run_again_leaves_nothing_twice(room: Room, write_dicom: Callable[..., Path]) -> None:
    write_dicom("archive/cine.dcm", frames(3))
    with room.begin("tiny") as ingestion:
        archive = Archive(room.archive)
        (chunks,) = [list(chunks) for chunks in ingestion.passes(lambda: archive.files(room.pseudonymizer))]
        assert [chunk.number for chunk in chunks] == [1]
        assert [ingestion.ingest_chunk(chunks[0]) for _ in range(2)] == [3, 3]
        assert ingestion.accounts.totals()["indexed"] == 1
        assert ingestion.accounts.images() == 3
    assert len(room.points()) == 3


def test_more_files_than_a_chunk_holds_are_all_taken(
    room: Room, write_png: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.pipeline.CHUNK_FILES", 3)
    monkeypatch.setattr("ingest.pipeline._IDENTIFY_FILES", 2)
    monkeypatch.setattr("ingest.embedding._LEAST_AT_ONCE", 2)
    for number in range(11):
        write_png(f"archive/{number}.png", seed=number)
    assert room.ingest()[0].indexed == 11
    assert len(room.points()) == 11
    assert room.ingest()[0].unchanged == 11


def test_no_payload_holds_what_names_a_patient_or_a_file(
    room: Room, write_dicom: Callable[..., Path], write_png: Callable[..., Path]
) -> None:
    uid = generate_uid()
    write_dicom("archive/secret-name/slice.dcm", SOPInstanceUID=uid, StudyDate="20210314", AccessionNumber="ACC77")
    write_png("archive/secret-name/image.png")
    room.ingest()
    words = str([point.payload for point in room.points().values()])
    for named in ("Marker", "MRN-0001", "secret-name", "slice", "image.png", uid, "20210314", "ACC77"):
        assert named not in words


def test_real_worker_processes_give_what_threads_give(mixed: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    _, in_threads = mixed.ingest()
    before = mixed.points()
    mixed.client.delete_collection("room")
    monkeypatch.setattr(pipeline, "IsolatedPool", IsolatedPool)
    _, in_processes = mixed.ingest()
    assert in_processes == in_threads
    after = mixed.points()
    assert {name: point.payload for name, point in after.items()} == {
        name: point.payload for name, point in before.items()
    }


def test_a_header_that_declares_more_frames_than_the_file_has_bytes_is_refused_at_once(
    pseudonymizer: Pseudonymizer, write_dicom: Callable[..., Path]
) -> None:
    """Else the ids of two thousand million frames are looked up before the first one is found missing."""
    path = write_dicom("claims.dcm", NumberOfFrames=2_000_000_000)
    with pytest.raises(UnreadableImageError, match="truncated file"):
        identify(path, pseudonymizer, name="claims.dcm")


def test_a_model_that_is_added_to_what_is_known_adds_no_image(room: Room, write_png: Callable[..., Path]) -> None:
    write_png("archive/old.png", seed=1)
    room.ingest()
    before = room.only_point()
    write_png("archive/new.png", seed=2)
    _, files = room.ingest("other", known_only=True)
    assert files == {"old.png": ("indexed", None), "new.png": ("skipped", "not in the index yet")}
    after = room.only_point()
    assert after.payload["models"] == ["other", "tiny"]
    assert after.vectors["tiny"] == before.vectors["tiny"]


def shown(room: Room) -> "list[bytes | None]":
    """The thumbnail of each point, by frame."""
    payloads = sorted((point.payload for point in room.points().values()), key=lambda payload: payload["frame"])
    return [room.thumbnails.read(payload["thumbnail"]) for payload in payloads]


def written(room: Room) -> set[str]:
    return {path.stem for path in room.thumbnails.folder.glob("*/*.webp")}


def test_every_point_names_the_thumbnail_of_its_rendered_picture(
    room: Room, write_dicom: Callable[..., Path], pseudonymizer: Pseudonymizer
) -> None:
    path = write_dicom("archive/cine.dcm", frames(3))
    room.ingest()
    expected = [thumbnail_of(render(image)) for image in read(path, pseudonymizer, [1, 2, 3])]
    assert len(set(expected)) == 3
    assert shown(room) == expected
    assert written(room) == {point.payload["thumbnail"] for point in room.points().values()}


@pytest.mark.parametrize("gpus", [0, 1])
def test_two_images_of_the_same_picture_share_a_thumbnail_however_they_are_resized(
    room: Room, write_png: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, gpus: int
) -> None:
    monkeypatch.setattr(pipeline, "expected_gpus", lambda _: gpus)
    write_png("archive/one.png", seed=1)
    write_png("archive/two.png", seed=1)
    room.ingest()
    (name,) = written(room)
    assert [point.payload["thumbnail"] for point in room.points().values()] == [name, name]


def test_points_of_an_earlier_ingest_get_thumbnails_without_being_embedded_again(
    mixed: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed.ingest("tiny", "other")
    before = mixed.points()
    mixed.forget_thumbnails()
    monkeypatch.setattr("radsearch.models.base.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    assert mixed.ingest("tiny")[0].indexed == 2
    after = mixed.points()
    assert {name: point.payload for name, point in after.items()} == {
        name: point.payload for name, point in before.items()
    }
    assert {name: point.vectors for name, point in after.items()} == {
        name: point.vectors for name, point in before.items()
    }
    assert all(shown(mixed))
    assert mixed.ingest("tiny")[0].unchanged == 2


def test_points_in_a_folder_get_thumbnails_without_being_embedded_again(
    room: Room, write_png: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine itself is asked to change payloads and no vector."""
    write_png("archive/image.png")
    prints = [room.fingerprint("tiny")]
    archive = Archive(room.archive)

    def ingest(settings: Settings) -> Stored:
        with open_index(settings, create_for=prints, sole_writer=True) as index:
            index.admit(prints, room.pseudonymizer.check)
            with Ingestion(index, [find_model("tiny")], settings, room.pseudonymizer) as ingestion:
                ingest_all(ingestion, lambda: archive.files(room.pseudonymizer), lambda: None)
            index.finish()
            ((point,),) = index.pages(vectors_of=["tiny"])
            return point

    monkeypatch.setattr(pipeline, "thumbnails_of", lambda _: None)
    before = ingest(room.settings)
    assert "thumbnail" not in before.payload
    monkeypatch.setattr(pipeline, "thumbnails_of", lambda _: room.thumbnails)
    monkeypatch.setattr("radsearch.models.base.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    after = ingest(room.settings)
    assert after.payload == {**before.payload, "thumbnail": after.payload["thumbnail"]}
    assert room.thumbnails.read(after.payload["thumbnail"])
    np.testing.assert_array_equal(after.vectors["tiny"], before.vectors["tiny"])


def test_a_new_image_beside_one_that_only_lacks_its_thumbnail_is_embedded_alone(
    room: Room, write_png: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png("archive/old.png", seed=1)
    room.ingest()
    room.forget_thumbnails()
    (old,) = room.points()
    square = np.arange(64, dtype=np.uint8).reshape(8, 8)
    write_png("archive/a-new.png", square)
    came: list[int] = []
    embed_prepared = Embedder.embed_prepared
    monkeypatch.setattr(
        Embedder, "embed_prepared", lambda self, squares: came.append(len(squares)) or embed_prepared(self, squares)
    )
    room.ingest()
    assert came == [1, 1]  # the test card, and the new one
    assert all(shown(room))
    (new,) = set(room.points()) - {old}
    expected = expected_vector(room.settings.models_folder, "tiny", square)
    np.testing.assert_allclose(room.points()[new].vectors["tiny"], expected, atol=1e-5)


def test_a_manifest_keeps_its_say_when_thumbnails_come_later(room: Room, write_png: Callable[..., Path]) -> None:
    write_png("archive/image.png")
    manifest = room.archive / "manifest.csv"
    manifest.write_text("filepath,patient,modality,region,labels\nimage.png,7,DX,chest,nodule\n")
    room.ingest(manifest=manifest)
    before = room.only_point().payload
    for said in ({"manifest": manifest}, {"path": room.archive / "image.png"}):
        room.forget_thumbnails()
        assert room.ingest(**said)[0].indexed == 1
        assert room.only_point().payload == before
        assert room.ingest(**said)[0].unchanged == 1


def test_changed_content_gets_another_thumbnail(room: Room, write_png: Callable[..., Path]) -> None:
    write_png("archive/image.png", seed=1)
    room.ingest()
    before = room.only_point().payload["thumbnail"]
    write_png("archive/image.png", seed=2)
    room.ingest()
    assert room.only_point().payload["thumbnail"] != before
    assert all(shown(room))


def test_another_choice_of_frames_gives_each_its_own_thumbnail(room: Room, write_dicom: Callable[..., Path]) -> None:
    """What was said of the old frames becomes the new ones' payload, and with it the name of theirs."""
    write_dicom("archive/cine.dcm", frames(8), Modality="US", BurnedInAnnotation="NO")
    room.settings = replace(room.settings, cine_frames=2)
    room.ingest()
    room.settings = replace(room.settings, cine_frames=4)
    room.ingest()
    assert len({point.payload["thumbnail"] for point in room.points().values()}) == 4
    assert all(shown(room))


def test_without_a_folder_nothing_is_made_and_what_is_there_is_kept(
    room: Room, write_dicom: Callable[..., Path]
) -> None:
    """An index on a server, seen from a host without RADSEARCH_THUMBNAILS."""
    path = write_dicom("archive/cine.dcm", frames(8), Modality="US", BurnedInAnnotation="NO")
    room.settings = replace(room.settings, cine_frames=2)
    room.ingest()
    with_folder = room.settings
    before = {point: stored.payload["thumbnail"] for point, stored in room.points().items()}
    room.settings = replace(room.settings, index="https://qdrant:6333")
    assert room.ingest()[0].unchanged == 1
    manifest = room.archive / "labels.csv"
    manifest.write_text(f"filepath,patient,modality,region,labels\n{path.name},p,US,heart,effusion\n")
    assert room.ingest(manifest=manifest)[0].indexed == 1
    assert {point: stored.payload["thumbnail"] for point, stored in room.points().items()} == before
    room.settings = replace(room.settings, cine_frames=0)
    assert room.ingest(path=path)[0].indexed == 1
    named = {point: one.payload["thumbnail"] for point, one in room.points().items() if "thumbnail" in one.payload}
    assert (named, len(room.points())) == (before, 8)
    room.settings = replace(with_folder, cine_frames=0)
    assert room.ingest(path=path)[0].indexed == 1
    assert all(shown(room))
    assert len(written(room)) == 8


def test_thumbnails_are_there_before_the_points_that_name_them(
    room: Room, write_png: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png("archive/image.png")
    at_writing: list[bool] = []
    write = Index.write

    def look_and_write(index: Index, images: list[IndexedImage]) -> None:
        at_writing.extend(room.thumbnails.read(image.payload["thumbnail"]) is not None for image in images)
        write(index, images)

    monkeypatch.setattr(Index, "write", look_and_write)
    room.ingest()
    assert at_writing == [True]


def test_a_full_disk_ends_the_run_before_its_points_are_written(
    room: Room, write_png: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png("archive/image.png")

    def full(_thumbnails: Thumbnails, _thumbnail: bytes) -> str:
        raise DiskFullError("the disk is full")

    monkeypatch.setattr(Thumbnails, "write", full)
    with pytest.raises(DiskFullError):
        room.ingest()
    assert room.points() == {}
    monkeypatch.undo()


def test_a_hit_names_the_thumbnail(room: Room, write_png: Callable[..., Path]) -> None:
    write_png("archive/image.png")
    room.ingest()
    stored = room.only_point()
    (hit,) = room.index("tiny").nearest({"tiny": np.asarray(stored.vectors["tiny"], np.float32)}, SearchFilter(), 3)
    assert hit.thumbnail == stored.payload["thumbnail"]


def test_the_catalogue_learns_where_each_file_is_also_of_an_index_that_was_made_without_one(
    mixed: Room, tmp_path: Path
) -> None:
    mixed.ingest()
    mixed.settings = replace(mixed.settings, catalogue=tmp_path / "catalogue.sqlite")
    _, files = mixed.ingest()
    assert {outcome for outcome, _ in files.values()} == {"unchanged", "skipped", "refused"}
    catalogue = Catalogue(tmp_path / "catalogue.sqlite")
    found = {catalogue.path_of(point.payload["instance"]) for point in mixed.points().values()}
    assert found == {mixed.archive / file for file, (outcome, _) in files.items() if outcome == "unchanged"}
    held = json.dumps([point.payload for point in mixed.points().values()])
    assert str(mixed.archive) not in held


def test_a_catalogue_that_cannot_be_written_costs_no_image(mixed: Room, tmp_path: Path) -> None:
    (tmp_path / "catalogue.sqlite").write_bytes(b"no database at all, but long enough" * 99)
    mixed.settings = replace(mixed.settings, catalogue=tmp_path / "catalogue.sqlite")
    with mixed.begin("tiny") as ingestion:
        ingest_all(ingestion, lambda: Archive(mixed.archive).files(mixed.pseudonymizer), lambda: None)
        assert "cannot be used" in str(ingestion.catalogue_fault)
    assert mixed.points()
