"""Maps of an index: where images lie, and the file that keeps it."""

import json
import os
import sys
import tarfile
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from radsearch.__main__ import main
from radsearch.errors import DamagedMapError, RadSearchError, SettingsError, UnknownNameError
from radsearch.index import IndexedImage, open_index
from radsearch.index.snapshots import snapshot
from radsearch.maps import Map, Maps, make_map, maps_of
from radsearch.maps.projection import projected
from radsearch.privacy import Pseudonymizer
from radsearch.settings import Settings
from radsearch.study import Fingerprint

MODEL = Fingerprint("a model/Of mine", "sha256:0", 4, "none", "float32", 1)
IDS = tuple(f"00000000-0000-4000-8000-{number:012d}" for number in range(4))


@pytest.fixture
def made() -> Map:
    places = np.array([[0, 1], [2, 3], [4, 5], [-6, 7.5]], np.float32)
    return Map("pca", MODEL, IDS, places, "2026-11-26")


@pytest.fixture
def filled(settings: Settings, pseudonymizer: Pseudonymizer) -> Settings:
    with open_index(settings, create_for=[MODEL]) as index:
        index.admit([MODEL], pseudonymizer.check)
        vectors = np.eye(4, dtype=np.float32)
        index.write([IndexedImage(IDS[n], {MODEL.model: vectors[n]}, {"models": [MODEL.model]}) for n in range(4)])
    return settings


def test_principal_directions_are_those_of_a_figure_worked_out_by_hand() -> None:
    """Four points at (+-3, 0) and (0, +-1) of a plane that is turned into the second and third number."""
    vectors = np.array([[5, 3, 0], [5, -3, 0], [5, 0, 1], [5, 0, -1]], np.float32)
    np.testing.assert_allclose(projected("pca")(vectors), [[3, 0], [-3, 0], [0, 1], [0, -1]], atol=1e-6)


def test_principal_directions_do_not_turn_round_with_the_sign_of_the_solver() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    places = projected("pca")(vectors)
    np.testing.assert_allclose(projected("pca")(vectors[::-1])[::-1], places, atol=1e-5)
    assert places.dtype == np.float32
    assert places.var(axis=0)[0] > places.var(axis=0)[1]


@pytest.mark.parametrize("shape", [(3, 1), (3, 2), (3, 100)])
def test_few_images_and_few_numbers_have_places_too(shape: tuple[int, int]) -> None:
    places = projected("pca")(np.ones(shape, np.float32))
    np.testing.assert_allclose(places, np.zeros((3, 2)), atol=1e-6)


def test_umap_that_is_not_installed_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(SettingsError, match="pip install umap-learn"):
        projected("umap")


def test_umap_is_asked_for_by_cosine_and_with_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    class Layout:
        def __init__(self, **given: object) -> None:
            asked.update(given)

        def fit_transform(self, vectors: np.ndarray) -> np.ndarray:
            return vectors[:, :2].astype(np.float64)

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Layout, __spec__=object()))  # type: ignore[arg-type]
    places = projected("umap")(np.eye(5, dtype=np.float32))
    assert places.dtype == np.float32
    assert (asked["metric"], asked["random_state"], asked["n_neighbors"]) == ("cosine", 0, 4)


def test_unknown_method_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'umap'"):
        projected("umpa")


def test_map_is_kept_and_read_as_it_was(tmp_path: Path, made: Map) -> None:
    maps = Maps(tmp_path / "maps")
    assert maps.read(MODEL, "pca") is None
    maps.write(made)
    kept = maps.read(MODEL, "pca")
    assert kept is not None
    assert (kept.ids, kept.fingerprint, kept.method, kept.made) == (IDS, MODEL, "pca", "2026-11-26")
    np.testing.assert_array_equal(kept.places, made.places)
    assert [path.name for path in (tmp_path / "maps").iterdir()] == [maps.file(MODEL.model, "pca").name]


def test_models_whose_names_differ_in_what_a_file_cannot_have_do_not_share_one(tmp_path: Path) -> None:
    maps = Maps(tmp_path)
    names = {maps.file(model, "pca") for model in ("a/b", "a:b", "A-b", "a-b", "../a-b", "", ".")}
    assert len(names) == 7
    assert all(name.parent == tmp_path and not name.name.startswith(".half") for name in names)


@pytest.mark.parametrize("change", [{"weights": "sha256:1"}, {"rendering": 2}, {"precision": "bfloat16"}])
def test_map_of_other_vectors_is_not_shown(tmp_path: Path, made: Map, change: dict[str, object]) -> None:
    Maps(tmp_path).write(made)
    assert Maps(tmp_path).read(replace(MODEL, **change), "pca") is None  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [0, 4, 100, -30])
def test_map_that_was_cut_off_is_a_sentence(tmp_path: Path, made: Map, length: int) -> None:
    maps = Maps(tmp_path)
    maps.write(made)
    file = maps.file(MODEL.model, "pca")
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(DamagedMapError, match="make it anew"):
        maps.read(MODEL, "pca")
    maps.write(made)
    assert maps.read(MODEL, "pca") is not None


def _stored(made: Map) -> dict[str, object]:
    ids = np.array([one.encode() for one in made.ids], "S36")
    card = np.array(json.dumps(asdict(made.fingerprint)))
    return {"ids": ids, "places": made.places, "fingerprint": card, "made": np.array(made.made)}


@pytest.mark.parametrize(
    "other",
    [
        {"ids": np.array(["x" * 36] * 4, "S36")},
        {"places": np.zeros((3, 2), np.float32)},
        {"places": np.full((4, 2), np.nan, np.float32)},
        {"places": np.zeros((4, 2), np.int64)},
        {"ids": np.array([[b"x"] * 36] * 4)},
        {"fingerprint": np.array("[1]")},
        {"fingerprint": np.array('{"stranger": 1}')},
    ],
)
def test_file_that_is_no_map_is_a_sentence(tmp_path: Path, made: Map, other: dict[str, object]) -> None:
    np.savez(Maps(tmp_path).file(MODEL.model, "pca"), **_stored(made) | other)  # type: ignore[arg-type]
    with pytest.raises(DamagedMapError, match="damaged"):
        Maps(tmp_path).read(MODEL, "pca")


def test_map_that_claims_more_than_it_may_have_is_a_sentence(tmp_path: Path, made: Map) -> None:
    file = Maps(tmp_path).file(MODEL.model, "pca")
    np.savez_compressed(file, **_stored(made) | {"more": np.zeros(1_000_000)})  # type: ignore[arg-type]
    assert file.stat().st_size < 100_000
    with pytest.raises(DamagedMapError, match="damaged"):
        Maps(tmp_path).read(MODEL, "pca")


def test_map_that_is_encrypted_or_a_pipe_is_a_sentence(tmp_path: Path, made: Map) -> None:
    maps = Maps(tmp_path)
    maps.write(made)
    file = maps.file(MODEL.model, "pca")
    content = file.read_bytes()
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        parts = content.split(mark)
        flagged = [part[: place - 4] + bytes([part[place - 4] | 1]) + part[place - 3 :] for part in parts[1:]]
        content = mark.join([parts[0], *flagged])
    file.write_bytes(content)
    with pytest.raises(DamagedMapError, match="damaged"):
        maps.read(MODEL, "pca")
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(DamagedMapError, match="damaged"):
        maps.read(MODEL, "pca")


def test_map_of_an_index_that_was_removed_does_not_bring_its_folder_back(tmp_path: Path, made: Map) -> None:
    maps = maps_of(Settings(index=str(tmp_path / "gone")))
    assert maps is not None
    with pytest.raises(RadSearchError, match="no map can be written"):
        maps.write(made)
    assert not (tmp_path / "gone").exists()


def test_maps_of_two_collections_do_not_share_a_file(tmp_path: Path, made: Map) -> None:
    one, other = (
        maps_of(Settings(index="https://host", collection=name, thumbnails_folder=tmp_path / "t")) for name in "ab"
    )
    assert one is not None
    assert other is not None
    one.write(made)
    assert one.read(MODEL, "pca") is not None
    assert other.read(MODEL, "pca") is None


def test_model_of_too_few_vectors_is_said_and_the_others_have_their_maps(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = replace(MODEL, model="few")
    vectors = np.eye(4, dtype=np.float32)
    with open_index(settings, create_for=[few, MODEL]) as index:
        index.write([IndexedImage(IDS[n], {MODEL.model: vectors[n]}, {"models": [MODEL.model]}) for n in range(4)])
    monkeypatch.setenv("RADSEARCH_INDEX", settings.index)
    assert main(["index", "map"]) == 1
    said = capsys.readouterr()
    assert "0 images have vectors of few" in said.err
    assert said.out.startswith("a model/Of mine: 4 images in ")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.parametrize("part", ["ids", "places", "fingerprint", "made"])
def test_foreign_pickle_in_a_map_is_refused_and_not_run(tmp_path: Path, made: Map, part: str) -> None:
    trap = np.array([Trap(tmp_path / "sprung")], object)
    np.savez(Maps(tmp_path).file(MODEL.model, "pca"), **_stored(made) | {part: trap})  # type: ignore[arg-type]
    with pytest.raises(DamagedMapError, match="damaged"):
        Maps(tmp_path).read(MODEL, "pca")
    assert not (tmp_path / "sprung").exists()


def test_map_that_cannot_be_written_is_a_sentence(tmp_path: Path, made: Map) -> None:
    (tmp_path / "maps").write_text("no folder")
    with pytest.raises(RadSearchError, match="no map can be written"):
        Maps(tmp_path / "maps").write(made)


def test_map_is_made_of_what_is_indexed(filled: Settings) -> None:
    made = make_map(lambda: open_index(filled), MODEL.model)
    assert (made.ids, made.fingerprint, made.places.shape) == (IDS, MODEL, (4, 2))
    assert len(make_map(lambda: open_index(filled), MODEL.model, count=3).ids) == 3


@pytest.mark.parametrize("count", [2, 20_001])
def test_too_many_and_too_few_are_refused(filled: Settings, count: int) -> None:
    with pytest.raises(SettingsError, match="a map has 3 to 20,000 images"):
        make_map(lambda: open_index(filled), MODEL.model, count=count)


def test_index_of_two_images_has_no_map(filled: Settings) -> None:
    with open_index(filled) as index:
        index.delete(IDS[2:])
    with pytest.raises(RadSearchError, match="2 images have vectors of a model/Of mine; a map needs 3"):
        make_map(lambda: open_index(filled), MODEL.model)


def test_maps_lie_in_the_index_or_in_the_thumbnails_of_a_server(tmp_path: Path) -> None:
    def folder(settings: Settings) -> Path | None:
        maps = maps_of(settings)
        return maps and maps.file("m", "pca").parent

    assert folder(Settings(index=str(tmp_path))) == tmp_path / "maps"
    assert folder(Settings(index="https://host", thumbnails_folder=tmp_path / "t")) == tmp_path / "t" / "maps"
    assert folder(Settings(index="https://host")) is None


def test_command_makes_the_map_of_every_model(
    filled: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RADSEARCH_INDEX", filled.index)
    assert main(["index", "map", "--sample", "3"]) == 0
    assert capsys.readouterr().out.startswith("a model/Of mine: 3 images in ")
    maps = maps_of(filled)
    assert maps is not None
    assert maps.read(MODEL, "pca") is not None
    assert main(["index", "map", "--model", "another"]) == 2
    assert "unknown model 'another'" in capsys.readouterr().err


def test_snapshot_of_a_folder_leaves_out_its_maps(filled: Settings, tmp_path: Path) -> None:
    maps = maps_of(filled)
    assert maps is not None
    maps.write(make_map(lambda: open_index(filled), MODEL.model))
    snapshot(filled, tmp_path / "saved.tar")
    with tarfile.open(tmp_path / "saved.tar") as archive:
        assert not any(name.startswith("./maps") for name in archive.getnames())
