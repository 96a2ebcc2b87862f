"""Where files come from: what is found below a folder, and what of it is not opened."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.sources import Archive, SourceFile
from radsearch.errors import ManifestError, SettingsError
from radsearch.privacy import Pseudonymizer

HEADER = "filepath,patient,modality,region,labels\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "archive"
    made.mkdir()
    return made


@pytest.fixture
def listed(pseudonymizer: Pseudonymizer) -> Callable[[Archive], dict[str, SourceFile]]:
    def list_files(archive: Archive) -> dict[str, SourceFile]:
        files = list(archive.files(pseudonymizer))
        assert archive.count(pseudonymizer) == len(files)
        by_name = {file.name: file for file in files}
        assert len(by_name) == len(files)
        return by_name

    return list_files


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def test_all_below_a_folder_is_found_in_a_fixed_order(folder: Path, pseudonymizer: Pseudonymizer) -> None:
    for name in ("b.dcm", "a/z.png", "a/deep/er/file", ".hidden", "c d.jpg"):
        put(folder / name)
    names = [file.name for file in Archive(folder).files(pseudonymizer)]
    assert names == [".hidden", "a/deep/er/file", "a/z.png", "b.dcm", "c d.jpg"]
    assert [file.name for file in Archive(folder).files(pseudonymizer)] == names


def test_an_ordinary_file_has_no_reason_against_it(folder: Path, listed: Callable[..., dict[str, SourceFile]]) -> None:
    path = put(folder / "sub" / "image.png")
    (file,) = listed(Archive(folder)).values()
    assert (file.path, file.reason, file.skipped) == (path, None, False)
    assert file.identity == str(path)


def test_the_options_say_of_every_file_its_data_set_and_split(
    folder: Path, listed: Callable[..., dict[str, SourceFile]]
) -> None:
    put(folder / "sub" / "image.png")
    (file,) = listed(Archive(folder, dataset="scans", split="test")).values()
    assert (file.said.dataset, file.said.split) == ("scans", "test")
    assert file.identity == "scans\0sub/image.png"


def test_a_path_that_is_not_there_is_an_error(folder: Path, pseudonymizer: Pseudonymizer) -> None:
    with pytest.raises(SettingsError, match="no file or folder"):
        list(Archive(folder / "missing").files(pseudonymizer))


def test_a_single_file_is_an_archive_of_one(folder: Path, listed: Callable[..., dict[str, SourceFile]]) -> None:
    put(folder / "neighbour.png")
    path = put(folder / "image.png")
    (file,) = listed(Archive(path)).values()
    assert (file.name, file.path, file.reason) == ("image.png", path, None)


def test_a_single_file_may_be_named_by_a_link(folder: Path, listed: Callable[..., dict[str, SourceFile]]) -> None:
    put(folder / "deep" / "image.png")
    link = folder / "link.png"
    link.symlink_to(folder / "deep" / "image.png")
    (file,) = listed(Archive(link)).values()
    assert file.reason is None
    assert file.path.read_bytes() == b"x"


def test_the_archive_itself_may_be_a_link_to_a_folder(
    folder: Path, listed: Callable[..., dict[str, SourceFile]]
) -> None:
    put(folder / "image.png")
    link = folder.with_name("link")
    link.symlink_to(folder)
    (file,) = listed(Archive(link)).values()
    assert (file.name, file.reason, file.identity) == ("image.png", None, str(folder / "image.png"))


def test_a_link_to_a_folder_is_shown_and_not_entered(
    folder: Path, listed: Callable[..., dict[str, SourceFile]]
) -> None:
    put(folder / "real" / "image.png")
    (folder / "again").symlink_to(folder / "real")
    (folder / "circle").symlink_to(folder)
    files = listed(Archive(folder))
    assert set(files) == {"real/image.png", "again", "circle"}
    for name in ("again", "circle"):
        assert (files[name].reason, files[name].skipped) == ("link to a folder", True)


def test_a_link_that_leads_out_of_the_archive_is_refused(
    folder: Path, tmp_path: Path, listed: Callable[..., dict[str, SourceFile]]
) -> None:
    (folder / "out.png").symlink_to(put(tmp_path / "elsewhere.png"))
    (folder / "inside.png").symlink_to(put(folder / "real.png"))
    files = listed(Archive(folder))
    assert (files["out.png"].reason, files["out.png"].skipped) == ("file lies outside the archive", False)
    assert files["inside.png"].reason is None


def test_a_link_to_nothing_is_missing_and_one_to_itself_cannot_be_reached(
    folder: Path, listed: Callable[..., dict[str, SourceFile]]
) -> None:
    (folder / "dangling").symlink_to(folder / "nothing")
    (folder / "ring").symlink_to(folder / "ring")
    files = listed(Archive(folder))
    assert files["dangling"].reason == "file is missing"
    assert files["ring"].reason == "file cannot be reached"


def test_a_pipe_is_skipped_without_being_opened(folder: Path, listed: Callable[..., dict[str, SourceFile]]) -> None:
    os.mkfifo(folder / "pipe.dcm")
    (file,) = listed(Archive(folder)).values()
    assert (file.reason, file.skipped) == ("not a regular file", True)


def test_an_index_of_ours_in_the_archive_is_left_out(
    folder: Path, listed: Callable[..., dict[str, SourceFile]]
) -> None:
    put(folder / "image.png")
    put(folder / "index" / "radsearch.json")
    put(folder / "index" / "shard" / "segment")
    put(folder / "index" / "thumbnails" / "ab" / "ab01.webp")
    assert set(listed(Archive(folder))) == {"image.png"}


def test_only_takes_the_named_files(folder: Path, listed: Callable[..., dict[str, SourceFile]]) -> None:
    for name in ("a.png", "sub/a.png", "b.png"):
        put(folder / name)
    assert set(listed(Archive(folder, only=frozenset({"sub/a.png", "gone.png"})))) == {"sub/a.png"}


def test_a_manifest_says_which_files_are_taken(folder: Path, listed: Callable[..., dict[str, SourceFile]]) -> None:
    put(folder / "images" / "a.png")
    put(folder / "images" / "not-listed.png")
    manifest = folder / "manifest.csv"
    manifest.write_text(HEADER + "images/a.png,7,CT,chest,nodule\n./images/../images/gone.png,7,CT,chest,\n")
    files = listed(Archive(folder, manifest))
    assert set(files) == {"images/a.png", "images/gone.png"}
    assert (files["images/a.png"].reason, files["images/a.png"].said.labels.region) == (None, "chest")
    assert files["images/gone.png"].reason == "file is missing"


def test_a_manifests_paths_are_relative_to_it_and_must_stay_in_the_archive(
    folder: Path, tmp_path: Path, listed: Callable[..., dict[str, SourceFile]]
) -> None:
    put(folder / "images" / "a.png")
    put(tmp_path / "elsewhere.png")
    (folder / "images" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    manifest = folder / "manifest.csv"
    rows = ["images/a.png", "../elsewhere.png", str(tmp_path / "elsewhere.png"), "images/link.png", "images"]
    manifest.write_text(HEADER + "".join(f"{row},,,,\n" for row in rows[:2] + rows[3:]))
    files = listed(Archive(folder, manifest))
    outside = ("file lies outside the archive", False)
    assert files["images/a.png"].reason is None
    assert (files["../elsewhere.png"].reason, files["../elsewhere.png"].skipped) == outside
    assert (files["images/link.png"].reason, files["images/link.png"].skipped) == outside
    assert files["images"].reason is not None


def test_a_manifest_may_lie_outside_the_archive(
    folder: Path, tmp_path: Path, listed: Callable[..., dict[str, SourceFile]]
) -> None:
    put(folder / "a.png")
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(HEADER + "archive/a.png,,,,\n")
    assert listed(Archive(folder, manifest))["a.png"].reason is None


def test_a_row_that_cannot_be_used_is_a_file_with_that_reason(
    folder: Path, listed: Callable[..., dict[str, SourceFile]]
) -> None:
    put(folder / "a.png")
    manifest = folder / "manifest.csv"
    manifest.write_text(HEADER + "a.png,7,XYZ,chest,\n")
    assert listed(Archive(folder, manifest))["a.png"].reason == "manifest row has an unknown modality"


def test_a_manifest_that_is_not_there_is_an_error(folder: Path, pseudonymizer: Pseudonymizer) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        list(Archive(folder, folder / "none.csv").files(pseudonymizer))


def test_a_folder_that_may_not_be_read_is_refused_and_the_rest_is_taken(
    folder: Path, listed: Callable[..., dict[str, SourceFile]], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "a.png")
    put(folder / "locked" / "b.png")
    put(folder / "z.png")
    really = os.scandir

    def scandir(path: "str | Path") -> object:
        """Tests may run as root, who may read everything."""
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return really(path)

    monkeypatch.setattr("ingest.sources.os.scandir", scandir)
    files = listed(Archive(folder))
    assert set(files) == {"a.png", "locked", "z.png"}
    assert files["locked"].reason is not None
    assert not files["locked"].skipped


def test_each_file_is_in_one_part_whatever_comes_and_goes(
    folder: Path, listed: Callable[..., dict[str, SourceFile]]
) -> None:
    for number in range(200):
        put(folder / f"{number % 7}" / f"{number}.png")
    parts = [set(listed(Archive(folder, part=(part, 3)))) for part in (1, 2, 3)]
    assert set.union(*parts) == set(listed(Archive(folder)))
    assert sum(map(len, parts)) == 200
    assert min(map(len, parts)) > 40
    (folder / "0" / "0.png").unlink()
    put(folder / "0" / "new.png")
    again = [set(listed(Archive(folder, part=(part, 3)))) for part in (1, 2, 3)]
    for before, after in zip(parts, again, strict=True):
        assert before - {"0/0.png"} == after - {"0/new.png"}
