"""The table of hostile inputs: at which door, what was tried, what comes of it. docs/security.md shows the same table.

An attack is a function of hostile_attacks.py, run here, or the name of the test that holds it.
"""

# ruff: noqa: E501 -- a table is read row by row

import ast
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import hostile_attacks as by
import hostile_files as files
import pytest

from radsearch.privacy import Pseudonymizer
from radsearch.settings import Settings

TESTS = Path(__file__).parent
DOCUMENT = TESTS.parent / "docs" / "security.md"
CSV_ROW = b"\na.png,1,CT,chest,"


class Attack(NamedTuple):
    """outcome: words that the refusal has, where the attack is run here."""

    door: str
    tried: str
    outcome: str
    how: Callable[[by.Scene], str] | str


IMAGES = [
    ("PNG of 67 bytes that claims 50,000 x 50,000", "refused: picture too large", files.png(columns=50_000, rows=50_000)),
    ("PNG whose colour profile (iCCP) inflates to 50 MB", "refused: damaged picture", files.png_with_a_bomb(b"iCCP")),
    ("PNG whose text (zTXt) inflates to 50 MB", "refused: damaged picture", files.png_with_a_bomb(b"zTXt")),
    ("PNG that claims 2 thousand million frames", "1 picture", files.png((b"acTL", b"\x7f\xff\xff\xff\0\0\0\0"))),
    ("JPEG that claims 65,500 x 65,500", "refused: picture too large", files.jpeg(65_500, 65_500)),
    ("DICOM with JPEG 2000 that claims 65,535 x 65,535", "refused: picture too large", files.dicom_bomb_in_jpeg_2000()),
    ("DICOM with JPEG that claims 65,535 x 65,535", "refused: picture too large", files.dicom_bomb_in_jpeg()),
    ("DICOM with Rows and Columns of 65,535", "refused: picture too large", files.dicom(Rows=65535, Columns=65535)),
    ("DICOM with 2,147,483,647 frames", "refused: truncated file", files.dicom(NumberOfFrames=2147483647)),
    ("DICOM with 65,528 bits a pixel", "refused: damaged header", files.dicom(BitsAllocated=65528, BitsStored=65528)),
    ("DICOM with sequences nested 50,000 deep", "refused: damaged header", files.nested(50_000)),
    ("DICOM with a sequence of undefined length that never ends", "refused: damaged header", files.nested(1, closed=False)),
    ("DICOM with an element that claims 4 GB", "refused: no pixel data", files.length_lie(0xFFFFFFF0)),
    ("DICOM with bytes of undefined length", "refused: damaged header", files.length_lie(0xFFFFFFFF)),
    ("DICOM whose preamble makes it a Windows program", "1 picture", files.dicom(preamble=b"MZ" + bytes(126))),
    ("DICOM with an archive behind its pixels", "1 picture", files.dicom(files.zip_of())),
    ("ZIP named as a picture", "skipped: not an image", files.zip_of()),
    ("HTML named as a picture", "skipped: not an image", b"<html><script>alert(1)</script>"),
    ("SVG with a script", "skipped: not an image", b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>'),
]  # fmt: skip

ATTACKS = [
    *(Attack("image", tried, outcome, by.of_file(content)) for tried, outcome, content in IMAGES),
    Attack("image", "deflated DICOM that inflates without end", "given up soon", "test_opening.py::test_a_stream_that_inflates_to_too_much_is_given_up_soon"),
    Attack("image", "DICOM fragment longer than its file", "no memory taken", "test_opening.py::test_a_fragment_longer_than_the_file_takes_no_memory"),
    Attack("image", "codestream of another size than its header", "refused before it is decoded", "test_codecs.py::test_a_frame_that_belies_its_own_size_is_refused_before_it_is_decoded"),
    Attack("image", ".nii.gz that inflates to more than it declares", "no more than is declared", "test_reading_nifti.py::test_a_gzip_bomb_gives_no_more_than_is_declared"),
    Attack("image", ".nii.gz bomb, when it is recognised", "not inflated", "test_reading_nifti.py::test_a_gzip_bomb_is_not_inflated_to_recognise_it"),
    Attack("image", "NIfTI that declares a huge volume", "refused before it is read", "test_reading_nifti.py::test_a_volume_or_a_slice_that_is_too_large_is_refused_before_it_is_read"),
    Attack("image", "file that crashes its decoder, hangs, or eats memory", "refused alone", "test_isolation.py::test_a_bad_file_is_refused_and_its_neighbours_are_not"),
    Attack("image", "file that takes its worker over, which answers with code", "not run: the decoder gave no answer of ours", "test_answers.py::test_a_call_is_refused_and_not_made"),
    Attack("image", "file that takes its worker over, which would change what we call", "not changed: the decoder gave no answer of ours", "test_answers.py::test_an_answer_changes_nothing_that_has_a_name"),
    Attack("image", "words in any DICOM element", "none leaves the header", "test_reading_dicom.py::test_no_marker_planted_in_any_element_leaves_the_header"),
    Attack("image", "Study Instance UID that is part of an address", "the viewer is asked for None", by.study_number_that_is_an_address),
    Attack("manifest", "path with ../", "file lies outside the archive", by.by_manifest("../outside.png")),
    Attack("manifest", "absolute path", "file lies outside the archive", by.by_manifest("{}/outside.png")),
    Attack("manifest", "link to a file outside", "file lies outside the archive", by.by_manifest("out.png")),
    Attack("manifest", "path through a link to a folder outside", "file lies outside the archive", by.by_manifest("up/outside.png")),
    Attack("manifest", "link to itself", "file cannot be reached", by.by_manifest("loop.png")),
    Attack("manifest", "NUL in a path", "manifest row names no file", by.by_manifest("inside\0.png")),
    Attack("manifest", "cell of 2 million characters", "is no UTF-8 CSV", by.manifest(by.HEAD + CSV_ROW + b"x" * 2_000_000)),
    Attack("manifest", "line of 17 million characters", "is no UTF-8 CSV", by.manifest(by.HEAD + CSV_ROW + b"x," * 8_500_000)),
    Attack("manifest", "bytes that are no UTF-8", "is no UTF-8 CSV", by.manifest(by.HEAD + CSV_ROW + b"\xff\xfe")),
    Attack("manifest", "header of a million columns", "has 1,000,005 columns; 1,000 are the most", by.manifest(by.HEAD + b",x" * 1_000_000)),
    Attack("archive", "link to a file outside", "file lies outside the archive", by.walked(lambda archive, out: (archive / "l.png").symlink_to(out / "outside.png"))),
    Attack("archive", "link to a folder outside", "file lies outside the archive", by.walked(lambda archive, out: (archive / "l").symlink_to(out))),
    Attack("archive", "link to its own folder", "link to a folder", by.walked(lambda archive, _: (archive / "l").symlink_to(archive))),
    Attack("archive", "link to a device", "file lies outside the archive", by.walked(lambda archive, _: (archive / "l.dcm").symlink_to("/dev/zero"))),
    Attack("archive", "pipe", "not a regular file", by.walked(lambda archive, _: by.os.mkfifo(archive / "p.dcm"))),
    Attack("archive", "pipe in folders nested 1,100 deep", "not a regular file", by.many_folders),
    Attack("archive", "name that is no text", "taken like any other", "test_ingest_command.py::test_a_file_whose_name_is_no_utf8_is_taken_and_retried_like_any_other"),
    Attack("export", "formula in the words of a collection", "quoted, and read back as it was", by.exported),
    Attack("export", "formula in names and words of an evaluation's queries.csv", "quoted, and read back as it was", by.queries_of_a_run),
    Attack("export", "formula in a data set's tables and file names", "quoted, and read back as it was", by.manifest_of_a_data_set),
    Attack("terminal", "orders to the terminal in an index's words", "a question mark for each", by.terminal),
    Attack("terminal", "orders to the terminal in an error", "a question mark for each", by.terminal_of_errors),
    Attack("page", "upload of a ZIP", "cannot be searched by: not an image", by.upload(files.zip_of())),
    Attack("page", "upload of a decompression bomb", "cannot be searched by: picture too large", by.upload(files.png(columns=50_000, rows=50_000))),
    Attack("page", "upload of more than 200 MB", "taken by no server and no widget", "test_hostile.py::test_an_upload_has_a_limit_that_all_who_take_it_know"),
    Attack("page", "address of nonsense", "a search of 50 models at most", by.address),
    Attack("page", "any address at all", "some search", "test_page_parts.py::test_any_address_is_some_state"),
    Attack("page", "ids of nonsense", "{None}", by.ids),
    Attack("page", "id of nonsense, typed", "a sentence without its markup", "test_page.py::test_nonsense_id_is_answered_with_a_sentence"),
    Attack("page", "HTML in the words of an index", "shown as they are", "test_page.py::test_words_of_the_data_are_shown_as_they_are"),
    Attack("page", "HTML in a table", "no markup of the data", "test_page_parts.py::test_html_of_a_table_holds_no_markup_of_the_data"),
    Attack("page", "Markdown in labels and messages", "quoted", "test_page_parts.py::test_markdown_is_quoted"),
    Attack("page", "HTML in the map's hovers and legend", "plain words", "test_page_map.py::test_words_of_the_data_are_plain_words_in_hovers_and_legend"),
    Attack("page", "window or part of a picture that is none, from a browser", "not taken", "test_page_parts.py::test_what_is_no_part_is_not_taken_from_a_browser"),
    Attack("page", "report of a run with a script", "framed: runs nothing, asks nobody", "test_page_evaluation.py::test_a_report_is_framed_so_that_it_runs_nothing_and_asks_nobody"),
    Attack("page", "report of an ingest with a pipe, a link to itself", "counted", "test_page_archive.py::test_a_pipe_and_a_link_to_itself_are_counted_and_half_a_character_is_shown"),
    Attack("evaluation", "pickle as --vectors", "refused and never opened", "test_evaluation_command.py::test_a_pickle_is_refused_and_never_opened"),
    Attack("evaluation", "array with a damaged header", "refused", "test_collection.py::test_an_array_with_a_damaged_header_is_refused"),
    Attack("evaluation", "pickle or damage in a MedMNIST archive", "refused", "test_dataset_medmnist.py::test_a_damaged_archive_is_refused"),
    Attack("evaluation", "HTML in classes, regions, names, models, data sets", "escaped in the report", "test_evaluation_report.py::test_no_word_of_the_data_becomes_part_of_the_page"),
    Attack("evaluation", "HTML in the same, of compared runs", "escaped", by.comparison),
    Attack("evaluation", "image's id that leads out of --pictures", "no file outside is read", "test_evaluation_report.py::test_no_file_outside_the_folder_of_pictures_is_read"),
    Attack("evaluation", "picture too large for the report", "left out", "test_evaluation_report.py::test_a_picture_too_large_to_be_opened_is_left_out"),
    Attack("evaluation", "metrics.json nested 100,000 deep", "is damaged (RecursionError)", by.run(b"[" * by.DEEP)),
    Attack("evaluation", "metrics.json with NaN", "is damaged (ValueError)", by.run(b'{"queries": NaN}')),
    Attack("evaluation", "metrics.json with a number of 5,000 digits", "is damaged (ValueError)", by.run(b'{"queries": ' + b"9" * 5000 + b"}")),
    Attack("evaluation", "metrics.json that is a pipe", "holds no run of an evaluation", by.run_that_is_a_pipe),
    Attack("ingest", "report to retry, nested 100,000 deep", "is no report of an ingest", by.report),
    Attack("model", "pickle with code as weights", "holds something else than tensors, which was not run", by.weights(by.pickle_of_code)),
    Attack("model", "pickle with code for every library's loader", "refused and not run", "test_loaders.py::test_a_pickle_of_more_than_tensors_is_refused"),
    Attack("model", "pickle with code for every author's checkpoint", "refused and not run", "test_checkpoint_loaders.py::test_code_in_a_pickle_is_not_run"),
    Attack("model", "safetensors whose header claims more than the file", "cannot be loaded", by.weights(by.tensors_with_a_length(1 << 62))),
    Attack("model", "safetensors with a tensor of 4 TB", "cannot be loaded", by.weights(by.tensors_beyond_the_file)),
    Attack("model", "folder whose config.json names code (auto_map)", "not run", "test_loaders.py::test_code_that_a_folder_brings_is_not_run"),
    Attack("model", "tokenizer whose configuration allows code", "not run", "test_loaders.py::test_code_of_a_tokenizer_is_not_run_though_the_configuration_allows_it"),
    Attack("model", "description nested 100,000 deep", "is no JSON", by.description_without_end),
    Attack("model", "models.toml nested 100,000 deep", "cannot be read", by.table_of_models(b"a = " + b"[" * by.DEEP)),
    Attack("model", "models.toml with a name that leaves its folder", "has letters, digits", by.table_of_models(b'["../../x"]\nlike = "efficientnet-lite0"')),
    Attack("model", "archive of weights with paths", "not followed", "test_fetching.py::test_no_path_of_an_archive_is_followed"),
    Attack("model", "weights at an address without TLS", "not asked", "test_fetching.py::test_only_https_is_asked"),
    Attack("model", "other weights than the pinned ones", "thrown away", "test_fetching.py::test_another_file_than_the_pinned_one_is_thrown_away_and_both_hashes_are_said"),
    Attack("flows", "flows.toml nested 100,000 deep", "are no TOML", by.schedules),
    Attack("flows", "file names with Markdown or a patient", "none reaches Prefect", "test_flow.py::test_no_name_of_a_file_reaches_prefect"),
    Attack("index", "card nested 100,000 deep", "cannot be read (ValueError)", by.index_card(b"[" * by.DEEP)),
    Attack("index", "card that is a pipe", "no index", by.card_that_is_a_pipe),
    Attack("index", "card with Markdown or HTML as a model's name", "has fields that this version does not know", by.index_card(by.card_of("[x](http://nowhere.test)"))),
    Attack("index", "payload of other types than ours", "unknown", by.payload),
    Attack("index", "thumbnail's name that leads outside", "None", by.thumbnail("../outside")),
    Attack("index", "thumbnail's name that is no text", "None", by.thumbnail(["x"])),
    Attack("index", "thumbnail that is a pipe", "None", by.thumbnail(by.NAME, by.thumbnail_that_is_a_pipe)),
    Attack("index", "thumbnail of other bytes than its name says", "none", "test_thumbnails.py::test_a_damaged_or_missing_thumbnail_is_none"),
    Attack("index", "copy of names that are none", "not looked for", "test_thumbnails.py::test_what_is_no_name_is_not_looked_for"),
    Attack("index", "map with a pickle", "refused and not run", "test_maps.py::test_foreign_pickle_in_a_map_is_refused_and_not_run"),
    Attack("index", "map that claims more than it may have", "refused", "test_maps.py::test_map_that_claims_more_than_it_may_have_is_a_sentence"),
    Attack("snapshot", "member with ../", "is no snapshot, or is damaged", by.snapshot(("../escaped.txt", {}, b"x"))),
    Attack("snapshot", "absolute member", "is damaged: not all of it is there", by.snapshot(("{}/escaped.txt", {}, b"x"))),
    Attack("snapshot", "link to a file outside", "is no snapshot, or is damaged", by.snapshot(("./l", {"type": b"2", "linkname": "../outside.txt"}, b""))),
    Attack("snapshot", "hard link to a file outside", "is no snapshot, or is damaged", by.snapshot(("./l", {"type": b"1", "linkname": "../outside.txt"}, b""))),
    Attack("snapshot", "chain of links too long to be followed", "is no snapshot, or is damaged", by.snapshot(*by.chain_of_links())),
    Attack("snapshot", "link to itself, in its list of contents", "is no snapshot, or is damaged", by.snapshot(("./l", {"type": b"2", "linkname": "l"}, b""), by.contents("l"))),
    Attack("snapshot", "device", "is no snapshot, or is damaged", by.snapshot(("./d", {"type": b"3", "devmajor": 1, "devminor": 5}, b""))),
    Attack("snapshot", "member that claims 1,000 GB", "is no snapshot, or is damaged", by.snapshot(("./big", {"size": 1 << 40}, b"x"))),
    Attack("snapshot", "member of a size below 0, which leads back to itself", "is damaged", by.snapshot(("./x", {"size": -512}, b""))),
    Attack("snapshot", "compressed, as a bomb has to be", "is no snapshot, or is damaged", by.snapshot(("./zeros", {}, bytes(1_000_000)), mode="w:gz")),
    Attack("snapshot", "list of contents that names a pipe with ../", "is damaged: not all of it is there", by.snapshot(by.contents("../pipe"))),
    Attack("snapshot", "list of contents that names a device", "is damaged: not all of it is there", by.snapshot(by.contents("/dev/zero"))),
    Attack("snapshot", "list of contents nested 100,000 deep", "is damaged", by.snapshot(("./snapshot.json", {}, b"[" * by.DEEP))),
]  # fmt: skip


@pytest.mark.parametrize("attack", [pytest.param(one, id=f"{one.door}: {one.tried}") for one in ATTACKS])
def test_an_attack_ends_as_the_table_says(
    attack: Attack, tmp_path: Path, settings: Settings, pseudonymizer: Pseudonymizer
) -> None:
    if isinstance(attack.how, str):
        file, name = attack.how.split("::")
        assert name in names_in(file)
        return
    scene = by.Scene(tmp_path, settings, pseudonymizer)
    assert attack.outcome in attack.how(scene)
    assert not scene.trace.exists()
    assert not list(tmp_path.rglob("escaped*"))


@cache
def names_in(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_document_shows_the_very_table() -> None:
    table, _, _ = DOCUMENT.read_text(encoding="utf-8").partition("## Static checks")
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert rows[2:] == [row_of(attack) for attack in ATTACKS]
    assert len({(attack.door, attack.tried) for attack in ATTACKS}) == len(ATTACKS)


def row_of(attack: Attack) -> str:
    held = f"`{attack.how.split('::')[0]}`" if isinstance(attack.how, str) else "here"
    return f"| {attack.door} | {attack.tried} | {attack.outcome} | {held} |"


def test_an_upload_has_a_limit_that_all_who_take_it_know() -> None:
    from ui.searching import LARGEST_MEGABYTES

    for file in ("ui/__main__.py", ".streamlit/config.toml"):
        words = re.findall(r"maxUploadSize\W+(\d+)", (TESTS.parent / file).read_text(encoding="utf-8"))
        assert words == [str(LARGEST_MEGABYTES)], file
