"""`radsearch evidence`: where two images match, of files and of indexed ones; what cannot be had is said."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from inline_pool import InlinePool
from patch_models import add_patch_model
from PIL import Image

from radsearch.__main__ import main
from radsearch.catalogue import Catalogue
from radsearch.index import IndexedImage, open_index
from radsearch.models.base import load_model
from radsearch.privacy import Pseudonymizer
from radsearch.reading import identify
from radsearch.rendering import apart
from radsearch.settings import Settings

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    apart.close_readers()
    monkeypatch.setattr(apart, "IsolatedPool", InlinePool)
    monkeypatch.setenv("RADSEARCH_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("RADSEARCH_MODEL", "patchy")
    monkeypatch.setenv("RADSEARCH_DEVICE", "cpu")
    add_patch_model(monkeypatch, tmp_path / "models")


@pytest.fixture
def files(write_png: Callable[..., Path]) -> list[Path]:
    """A bright patch in the upper left corner of the one, in the lower right of the other; names of a patient."""
    dark = [np.zeros((16, 32), np.uint8), np.full((32, 32), 40, np.uint8)]
    dark[0][:4, :8] = 255
    dark[1][-8:, -8:] = 255
    return [write_png(f"Mustermann-{number}.png", pixels) for number, pixels in enumerate(dark)]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def told(*arguments: object) -> tuple[int, str, str]:
        code = main(["evidence", *map(str, arguments), "--out", str(tmp_path / "out.png")])
        said = capsys.readouterr()
        return code, said.out, said.err

    return told


@pytest.fixture
def ids(
    files: list[Path], settings: Settings, pseudonymizer: Pseudonymizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Both are indexed, and the catalogue knows where they are."""
    from radsearch.models import built_in_models

    held = load_model(built_in_models()["patchy"], models_folder=tmp_path / "models", device="cpu").fingerprint
    known = [identify(file, pseudonymizer, name=str(file)) for file in files]
    points = [pseudonymizer.point_id(identity.instance, 1) for identity in known]
    with open_index(settings, create_for=[held]) as index:
        index.admit([held], pseudonymizer.check)
        index.write([
            IndexedImage(
                point, {"patchy": np.eye(2, dtype=np.float32)[0]},
                {"instance": identity.instance, "content": identity.content, "frame": 1},
            )
            for point, identity in zip(points, known, strict=True)
        ])  # fmt: skip
    Catalogue(tmp_path / "catalogue.sqlite").record(
        [(identity.instance, file) for identity, file in zip(known, files, strict=True)]
    )
    monkeypatch.setenv("RADSEARCH_INDEX", settings.index)
    monkeypatch.setenv("RADSEARCH_CATALOGUE", str(tmp_path / "catalogue.sqlite"))
    monkeypatch.setenv("RADSEARCH_AUDIT", str(tmp_path / "audit.jsonl"))
    return points


def test_two_files_are_drawn_side_by_side_and_the_best_pair_is_where_both_are_bright(
    run: Run, files: list[Path], tmp_path: Path
) -> None:
    code, out, err = run(*files, "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert told["pairs"][0]["query"] == [0, 0, 8, 4]
    assert told["pairs"][0]["hit"] == [24, 24, 32, 32]
    assert told["exact"]
    assert told["cosine"] == pytest.approx(told["of_patches"], abs=1e-5)
    with Image.open(tmp_path / "out.png") as picture:
        assert (picture.format, picture.width) == ("PNG", 2 * 640 + 12)
        corner, middle = picture.getpixel((60, 60)), picture.getpixel((400, 250))
    assert max(corner) > 150 > max(middle)


def test_the_same_is_said_as_text(run: Run, files: list[Path]) -> None:
    _, out, _ = run(*files)
    lines = out.splitlines()
    assert lines[0].startswith("patchy: cosine 0.")
    assert lines[2].split()[0] == "1"
    assert " ".join(lines[2].split()[3:]) == "0, 0, 8, 4 24, 24, 32, 32"


def test_indexed_images_are_found_by_the_catalogue_and_the_audit_has_them_first(
    run: Run, ids: list[str], files: list[Path], tmp_path: Path
) -> None:
    expected = json.loads(run(*files, "--json")[1])
    assert not (tmp_path / "audit.jsonl").exists()
    code, out, err = run(ids[0], ids[1].upper(), "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == expected
    (line,) = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert line["action"] == "open"
    assert set(line["ids"]) == set(ids)
    assert json.loads(run(files[0], ids[1], "--json")[1]) == expected


def test_without_a_model_named_it_is_the_indexs_only_one(
    run: Run, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RADSEARCH_MODEL", "efficientnet-lite0")
    assert json.loads(run(*ids, "--json")[1])["model"] == "patchy"


def test_an_older_picture_is_written_over_and_no_other_file(run: Run, files: list[Path], tmp_path: Path) -> None:
    assert run(*files)[0] == run(*files)[0] == 0
    (tmp_path / "out.png").write_text("mine")
    code, _, err = run(*files)
    assert (code, (tmp_path / "out.png").read_text()) == (2, "mine")
    assert "no picture of ours" in err
    (tmp_path / "out.png").unlink()
    (tmp_path / "out.png").hardlink_to(files[1])
    before = files[1].read_bytes()
    assert run(*files)[0] == 2
    assert files[1].read_bytes() == before


Spoil = Callable[[list[Path], pytest.MonkeyPatch], object]
SPOILT: dict[str, tuple[Spoil, str]] = {
    "no catalogue": (lambda _files, patch: patch.delenv("RADSEARCH_CATALOGUE"), "private catalogue"),
    "gone": (lambda files, _: files[0].unlink(), "not where it was"),
    "changed": (lambda files, _: Image.fromarray(np.full((9, 9), 7, np.uint8)).save(files[0]), "has changed"),
    "no audit": (lambda _files, patch: patch.setenv("RADSEARCH_AUDIT", "/proc/nothing/audit"), "cannot be written"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_an_indexed_image_that_cannot_be_had_is_said_to_without_its_name(
    run: Run, ids: list[str], files: list[Path], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    spoil, words = SPOILT[how]
    spoil(files, monkeypatch)
    code, out, err = run(*ids)
    assert (code, out) == (2, "")
    assert words in err
    assert "Mustermann" not in err
    assert not files[0].with_name("out.png").exists()


def test_an_image_that_is_not_indexed_or_not_known_is_said_to_be_so(
    run: Run, ids: list[str], pseudonymizer: Pseudonymizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no indexed image" in run(ids[0], pseudonymizer.point_id("other", 1))[2]
    Catalogue(tmp_path / "empty.sqlite").record([("other", tmp_path)])
    monkeypatch.setenv("RADSEARCH_CATALOGUE", str(tmp_path / "empty.sqlite"))
    assert "has not been kept" in run(*ids)[2]


def test_a_file_that_cannot_be_read_is_refused(run: Run, files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    assert "cannot be read" in run(files[0], tmp_path / "notes.txt")[2]
    assert "cannot be opened" in run(files[0], tmp_path / "nothing.png")[2]


def test_text_in_pixels_is_treated_as_everywhere(
    run: Run, files: list[Path], write_dicom: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    risky = write_dicom("risky.dcm", BurnedInAnnotation="YES")
    code, _, err = run(files[0], risky)
    assert code == 2
    assert "text may be burned in" in err
    monkeypatch.setenv("RADSEARCH_BURNED_IN", "allow")
    assert run(files[0], risky)[0] == 0


def test_a_model_without_patches_is_refused_and_another_than_the_indexs_too(
    run: Run, ids: list[str], files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_patch_model(monkeypatch, tmp_path / "models", "vectors", pooling="pooled")
    assert "vectors gives no features by patch" in run(*files, "--model", "vectors")[2]
    from radsearch.models import built_in_models

    monkeypatch.setitem(built_in_models(), "patchy", replace(built_in_models()["patchy"], pooling="mean of another"))
    assert "patchy" in run(*ids)[2]
    assert run(*ids)[0] == 2
    assert run(*files)[0] == 0  # no index is asked for these


def test_patches_that_only_come_near_are_said_to(
    run: Run, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_patch_model(monkeypatch, tmp_path / "models", "near", pooling="pooled, patches")
    assert "is not the mean of its patches" in run(*files, "--model", "near")[1]
    assert json.loads(run(*files, "--model", "near", "--json")[1])["exact"] is False
