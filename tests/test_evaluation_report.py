"""The report of a run: the figures of the run and no others, every word escaped, nothing loaded from elsewhere."""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from evaluation.collection import Collection, Image
from evaluation.comparison import compare
from evaluation.contamination import Training
from evaluation.figures import measure
from evaluation.montage import _thumbnails
from evaluation.protocols import denner2024, leave_patient_out
from evaluation.report import page_of, write_comparison, write_report
from evaluation.runs import Surroundings, write_run
from evaluation.stored import METRICS, REPORT, Run, read_run
from radsearch.errors import SettingsError

SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=https://example.org/x onerror=alert(1)>'
VOID = ("meta", "img", "br", "hr")

# name, patient, region, finding, angle. Nearest, without the patient's own: c1: n2. c1b: n2. c2: c1b. n1: n2. n2: c1.
ROWS = (
    ("c1.png", "A", "head", "cyst", 16),
    ("c1b.png", "A", "head", "cyst", 17),
    ("c2.png", "B", "head", "cyst", 40),
    ("n1.png", "C", "chest", "nodule", 0),
    ("n2.png", "D", "chest", "nodule", 10),
)


def write(
    folder: Path,
    rows: Sequence[tuple[str, str, str, str, float]] = ROWS,
    *,
    model: str = "rad-dino",
    around: Surroundings | None = None,
    **facts: str,
) -> Run:
    """A run in a folder, by leave-patient-out."""
    images = [
        Image(name, patient, (finding,), {"modality": "CT", "region": region, **facts})
        for name, patient, region, finding, _ in rows
    ]
    turned = np.radians(np.array([angle for *_, angle in rows]))
    vectors = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    collection = Collection(images, vectors, "published.npy", {"model": model})
    trial = leave_patient_out(collection)
    write_run(folder, collection, trial, measure(collection, trial, device="cpu"), around)
    return read_run(folder)


@dataclass
class Page:
    """What a browser would make of a page: its elements, its words, its tables."""

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)
    unclosed: list[str] = field(default_factory=list)

    @property
    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}

    @property
    def pictures(self) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag == "img"]

    def table(self, heading: Sequence[str]) -> list[list[str]]:
        """The rows of the only table with that heading."""
        found = [rows for first, *rows in self.tables if first == list(heading)]
        assert len(found) == 1, self.tables
        return found[0]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.page.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.page.unclosed.append(tag)
        if tag == "table":
            self.page.tables.append([])
        elif tag == "tr":
            self.page.tables[-1].append([])
        elif tag in ("td", "th"):
            self.page.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.page.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.page.unclosed.pop() == tag

    def handle_data(self, data: str) -> None:
        self.page.words.append(data)
        if self.page.unclosed and self.page.unclosed[-1] in ("td", "th"):
            self.page.tables[-1][-1][-1] += data


def read(page: str) -> Page:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.page.unclosed == []
    return reader.page


def assert_harmless(page: str) -> Page:
    """Nothing runs, nothing is loaded from elsewhere."""
    found = read(page)
    assert not found.tags & {"script", "iframe", "object", "embed", "link", "base", "form", "a", "image", "use"}
    assert "url(" not in page
    assert "@import" not in page
    for tag, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on") or name in ("href", "style", "srcset")], tag
        assert attributes.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
    return found


def test_the_figures_of_the_tables_are_those_of_the_run(tmp_path: Path) -> None:
    write(tmp_path)
    told = json.loads((tmp_path / METRICS).read_text(encoding="utf-8"))
    page = read(write_report(tmp_path).read_text(encoding="utf-8"))
    assert page.table(["", "micro", "95 %", "macro", "own patient allowed"]) == [
        [
            name,
            f"{told['micro'][name]:.3f}",
            f"[{told['interval'][name][0]:.3f}, {told['interval'][name][1]:.3f}]",
            f"{told['macro'][name]:.3f}",
            f"{told['leak'][name]:.3f}" if name in told["leak"] else "",
        ]
        for name in told["micro"]
    ]
    # By hand: c2 and n1 of five find their like; a third of the cysts, half of the nodules; with his own c1, c1b too.
    first = page.table(["", "micro", "95 %", "macro", "own patient allowed"])[0]
    assert (first[0], first[1], first[3], first[4]) == ("P@1", "0.400", "0.417", "0.800")
    assert page.table(["", "P@1", "P@3", "P@5", "P@10", "macro P@1"]) == [
        [
            f"a hit shares {words}",
            *(f"{told['levels'][level][f'P@{k}']['micro']:.3f}" for k in (1, 3, 5, 10)),
            f"{told['levels'][level]['P@1']['macro']:.3f}",
        ]
        for level, words in (
            ("modality", "the modality"),
            ("region", "modality and region"),
            ("label", "modality, region and finding"),
        )
    ]
    assert page.table(["", "queries", "P@1", "macro P@1"]) == [
        ["CT/chest", "2", "0.500", "0.500"],
        ["CT/head", "3", "0.333", "0.333"],
    ]
    words = "".join(page.words)
    assert "5 queries of 2 classes against 5 images. A random neighbour would reach P@1 0.333." in words
    assert page.table(["", ""]) == [
        ["model", "rad-dino"],
        ["source", "published.npy"],
        ["radsearch", told["version"]],
        ["made", told["made"]],
    ]


def test_classes_have_bars_as_long_as_their_precision_the_most_frequent_first(tmp_path: Path) -> None:
    page = read(page_of(write(tmp_path)))
    words = [word for word in page.words if word.startswith("CT/") and "(" in word]
    assert words == ["CT/head/cyst (3)", "CT/chest/nodule (2)"]
    widths = [float(attributes["width"]) for tag, attributes in page.elements if tag == "rect"]
    assert widths == pytest.approx([360 / 3, 360 / 2], abs=0.1)


def test_the_curve_goes_through_the_precisions(tmp_path: Path) -> None:
    run = write(tmp_path)
    lines = [attributes["points"] for tag, attributes in read(page_of(run)).elements if tag == "polyline"]
    for name, line in zip(("micro", "macro"), lines, strict=True):
        heights = [(190 - float(point.split(",")[1])) / 175 for point in line.split(" ")]
        assert heights == pytest.approx([run.metrics[name][f"P@{k}"] for k in (1, 3, 5, 10)], abs=0.001)


def test_where_the_nearest_neighbour_is_from_is_counted(tmp_path: Path) -> None:
    """c1 and c1b find a nodule of the chest, c2 a cyst of the head; n1 a nodule, n2 a cyst."""
    found = read(page_of(write(tmp_path))).table(["query \\ first neighbour", "CT/chest", "CT/head"])
    assert found == [["CT/chest", "1", "1"], ["CT/head", "2", "1"]]


def test_neighbours_of_another_split_are_counted_and_shown_too(tmp_path: Path, pictures: Path) -> None:
    splits = ("train", "train", "test", "train", "test")
    images = [
        Image(name, patient, (finding,), {"modality": "CT", "region": region, "split": split})
        for (name, patient, region, finding, _), split in zip(ROWS, splits, strict=True)
    ]
    collection = Collection(images, np.eye(5, dtype=np.float32), "here", {"model": "m"})
    trial = denner2024(collection)
    write_run(tmp_path, collection, trial, measure(collection, trial, device="cpu"))
    page = read(page_of(read_run(tmp_path), pictures))
    # All are as far away: the names decide, and the first is c1.
    assert page.table(["query \\ first neighbour", "CT/chest", "CT/head"]) == [
        ["CT/chest", "·", "1"],
        ["CT/head", "·", "1"],
    ]
    # c2 and n2, the best and the worst, with c1, c1b, n1.
    shown = [(round(grey_of(one) / 40), one["class"]) for one in page.pictures]
    assert shown[:4] in (
        [(2, ""), (0, "right"), (1, "right"), (3, "wrong")],
        [(4, ""), (0, "wrong"), (1, "wrong"), (3, "right")],
    )
    # Where the protocol lets a query meet its own patient there is no such column.
    assert page.table(["", "micro", "95 %", "macro"])[0][0] == "P@1"


def test_of_several_findings_the_very_finding_is_told_beside_any(tmp_path: Path) -> None:
    """Image a meets b, who shares x but not y; b meets a, c meets a."""
    images = [
        Image(name, name, findings, {"modality": "CT", "region": "chest"})
        for name, findings in (("a", ("x", "y")), ("b", ("x",)), ("c", ("y",)))
    ]
    turned = np.radians(np.array([0, 5, 20]))
    vectors = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    collection = Collection(images, vectors, "here", {"model": "m"})
    trial = leave_patient_out(collection)
    write_run(tmp_path, collection, trial, measure(collection, trial, device="cpu"))
    page = read(page_of(read_run(tmp_path)))
    # Of x: a and b find x. Of y: a finds b by x alone, and c finds b, who shares nothing.
    assert page.table(["", "queries", "P@1", "same finding"]) == [["CT/chest/y", "2", "0.500", "0.000"]]


def test_what_was_left_out_is_listed(tmp_path: Path) -> None:
    whole = read(page_of(write(tmp_path)))
    assert "Nothing." in whole.words
    alone = (*ROWS, ("t1.png", "E", "head", "tumour", 20.0))
    assert read(page_of(write(tmp_path / "more", alone))).table(["", "images"]) == [
        ["class not in the index", "1"],
        ["no image to be found: CT/head/tumour", "1"],
    ]


def test_what_a_reader_has_to_know_is_said(tmp_path: Path) -> None:
    run = write(tmp_path, around=Surroundings(Training(["nih14", SCRIPT], 3), index_recall=0.98765))
    run = replace(run, metrics={**run.metrics, "shared_patients": 1234})
    words = "".join(assert_harmless(page_of(run)).words)
    assert f"The model was trained on nih14, {SCRIPT}: its figures there are too good." in words
    assert "The model may have seen 3 of the images in training: it is not known." in words
    assert "1,234 patients have images among the queries and in the index." in words
    assert "The neighbours are exact. The index's own search finds 0.9877 of the ten nearest." in words
    silent = "".join(read(page_of(write(tmp_path / "clean"))).words)
    assert "The model was trained on" not in silent
    assert "It is not known what the model was trained on: it may have seen these images." in silent
    assert "own search" not in silent


@pytest.mark.parametrize("word", [SCRIPT, IMAGE])
def test_no_word_of_the_data_becomes_part_of_the_page(tmp_path: Path, word: str) -> None:
    """As a class, a region, a name of a file, a model and a data set."""
    rows = [(f"{word}{name}", patient, f"{region}{word}", word, angle) for name, patient, region, _, angle in ROWS]
    run = write(tmp_path, rows, model=word, dataset=word)
    part = {"queries": 1, "P@1": 0.5, "macro P@1": 0.5}
    told = {
        **run.metrics,
        **dict.fromkeys(("protocol", "source", "version"), word),
        "by": {**run.metrics["by"], word: {word: part, "other": part}},
        "dropped": {word: 1},
        "lost_classes": {word: 2},
    }
    run = replace(run, metrics=told)
    page = assert_harmless(page_of(run, tmp_path))
    words = "".join(page.words)
    assert f"{word}: {word}" in words  # model and protocol
    assert f"By {word}" in words
    assert page.table(["", "images"]) == [[word, "1"], [f"no image to be found: {word}", "2"]]
    assert page.pictures == []


def test_a_report_is_one_file_that_needs_no_other(tmp_path: Path) -> None:
    run = write(tmp_path)
    file = write_report(tmp_path)
    assert file == tmp_path / REPORT
    text = file.read_text(encoding="utf-8")
    assert text == page_of(run)
    assert "http" not in text
    assert assert_harmless(text).pictures == []


def test_a_report_of_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds no run"):
        write_report(tmp_path)


def test_a_report_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / REPORT).mkdir()
    with pytest.raises(SettingsError, match=r"report\.html cannot be written"):
        write_report(tmp_path)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with a picture for each image of the run, each of another grey."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for place, (name, *_) in enumerate(ROWS):
        Picture.new("L", (300, 200), 40 * place).save(folder / name)
    return folder


def grey_of(picture: dict[str, str]) -> int:
    content = base64.b64decode(picture["src"].removeprefix("data:image/jpeg;base64,"))
    with Picture.open(io.BytesIO(content)) as drawn:
        assert drawn.format == "JPEG"
        assert drawn.size == (144, 96)
        return int(np.asarray(drawn.convert("L")).mean().round())


def test_the_best_and_the_worst_queries_are_shown_with_their_neighbours(tmp_path: Path, pictures: Path) -> None:
    page = assert_harmless(page_of(write(tmp_path), pictures))
    headings = [word for word in page.words if word in ("Best queries", "Worst queries")]
    assert headings == ["Best queries", "Worst queries"]
    # P@10: c1 0, c1b 0, c2 1, n1 1, n2 0; of each class one. Greys are 40 times the place: c1, c1b, c2, n1, n2.
    n1 = [(3, ""), (4, "right"), (0, "wrong"), (1, "wrong"), (2, "wrong")]
    c2 = [(2, ""), (1, "right"), (0, "right"), (4, "wrong"), (3, "wrong")]
    c1 = [(0, ""), (4, "wrong"), (3, "wrong"), (2, "right")]
    n2 = [(4, ""), (0, "wrong"), (1, "wrong"), (3, "right"), (2, "wrong")]
    assert [(round(grey_of(one) / 40), one["class"]) for one in page.pictures] == [*n1, *c2, *c1, *n2]


def test_a_neighbour_that_is_no_query_is_right_or_wrong_too(tmp_path: Path, pictures: Path) -> None:
    """The only nodule finds none and is no query."""
    page = read(page_of(write(tmp_path, [ROWS[0], ROWS[2], ROWS[4]]), pictures))
    best = [(2, ""), (0, "right"), (4, "wrong")]  # c2 (40 degrees): c1 (16), n2 (10)
    worst = [(0, ""), (4, "wrong"), (2, "right")]  # c1: n2, c2
    assert [(round(grey_of(one) / 40), one["class"]) for one in page.pictures] == [*best, *worst]


def test_a_picture_that_is_missing_or_none_is_said(tmp_path: Path, pictures: Path) -> None:
    run = write(tmp_path)
    everything = len(read(page_of(run, pictures)).pictures)
    (pictures / "c1.png").unlink()
    (pictures / "c1b.png").write_text("no picture at all")
    (pictures / "c2.png").write_bytes((pictures / "n1.png").read_bytes()[:60])
    (pictures / "n1.png").unlink()
    (pictures / "n1.png").mkdir()
    page = assert_harmless(page_of(run, pictures))
    assert {grey_of(one) for one in page.pictures} == {160}  # only n2 is left
    assert len(page.pictures) + page.words.count("no picture") == everything
    assert read(page_of(run, tmp_path / "nowhere")).words.count("no picture") == everything


def test_a_picture_too_large_to_be_opened_is_left_out(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Picture, "MAX_IMAGE_PIXELS", 1000)
    assert read(page_of(write(tmp_path), pictures)).pictures == []


def test_no_file_outside_the_folder_of_pictures_is_read(tmp_path: Path, pictures: Path) -> None:
    secret = tmp_path / "secret.png"
    Picture.new("L", (300, 200), 200).save(secret)
    (pictures / "link.png").symlink_to(secret)
    (pictures / "up").symlink_to(tmp_path, target_is_directory=True)
    names = ["../secret.png", "link.png", str(secret), "up/secret.png", "n2.png"]
    rows = [(name, f"p{place}", "head", "cyst", place) for place, name in enumerate(names)]
    page = assert_harmless(page_of(write(tmp_path / "run", rows), pictures))
    assert {grey_of(one) for one in page.pictures} == {160}  # n2, as it should be
    assert page.words.count("no picture") == 2 * 4  # best and worst: a query and its four neighbours, without n2


def test_a_link_inside_the_folder_of_pictures_is_followed(tmp_path: Path, pictures: Path) -> None:
    (pictures / "c1.png").unlink()
    (pictures / "c1.png").symlink_to(pictures / "c1b.png")
    linked = tmp_path / "linked"
    linked.symlink_to(pictures, target_is_directory=True)
    page = read(page_of(write(tmp_path), linked))
    assert "no picture" not in page.words


def test_a_comparison_s_page_says_what_the_comparison_says(tmp_path: Path, pictures: Path) -> None:
    first = write(tmp_path / "first", model=SCRIPT)
    turned = [(*row[:4], angle) for row, angle in zip(ROWS, (16, 17, 40, 0, 1), strict=True)]
    second = write(tmp_path / "second", turned, model=IMAGE)
    # n2 finds n1 now, and c1 and c1b find n2 as before: one nodule of two is won.
    comparisons = compare([first, second], ["P@1"])
    write_comparison(tmp_path / "comparison.html", [first, second], comparisons, pictures)
    page = assert_harmless((tmp_path / "comparison.html").read_text(encoding="utf-8"))
    assert page.table(["class", "queries", "mean", "won", "lost"]) == [
        ["CT/head/cyst", "3", "+0.0000", "0", "0"],
        ["CT/chest/nodule", "2", "+0.5000", "1", "0"],
    ]
    assert page.table(["query in queries.csv of the first run", "difference"]) == [["row 5", "+1.000"]]
    assert not any("n2.png" in word for word in page.words)
    assert f"P@1: {comparisons[0].second} less {comparisons[0].first}" in page.words
    greys = [round(grey_of(one) / 40) for one in page.pictures]
    assert greys[0] == 4  # n2 with its neighbours by the first run: c1, c1b, n1, c2
    assert greys[:5] == [4, 0, 1, 3, 2]
    assert greys[5:] == [4, 3, 0, 1, 2]  # and by the second: n1 (1), c1 (15), c1b (16), c2 (39)


def test_a_comparison_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    run = write(tmp_path / "run")
    with pytest.raises(SettingsError, match="cannot be written"):
        write_comparison(tmp_path / "nowhere" / "page.html", [run, run], compare([run, run], ["P@1"]), None)


def test_a_picture_of_sixteen_bits_keeps_its_greys(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (64, 1))
    Picture.fromarray(ramp).save(tmp_path / "x.png")
    shown = _thumbnails(tmp_path)("x.png")
    assert shown is not None
    with Picture.open(io.BytesIO(base64.b64decode(shown.split(",")[1]))) as picture:
        row = np.asarray(picture)[10, :, 0].astype(int)
    assert len(np.unique(row)) > 20
    assert row[0] < 20
    assert row[-1] > 235


@pytest.mark.parametrize("name", ["a\0b.png", "a" * 300])
def test_a_name_that_no_file_can_have_is_no_picture(tmp_path: Path, name: str) -> None:
    assert _thumbnails(tmp_path)(name) is None


def test_a_link_in_a_circle_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    assert _thumbnails(tmp_path)("a.png") is None


def test_a_broken_picture_is_no_picture(tmp_path: Path) -> None:
    Picture.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8)).save(tmp_path / "x.png")
    content = bytearray((tmp_path / "x.png").read_bytes())
    for place in range(40, len(content), 7):
        content[place] ^= 0x55
    (tmp_path / "x.png").write_bytes(content)
    assert _thumbnails(tmp_path)("x.png") is None


def test_words_beside_the_figures_are_escaped(tmp_path: Path) -> None:
    images = [Image(f"{n}", f"p{n}", ("a",), {"modality": "CT", "region": "chest"}) for n in range(3)]
    collection = Collection(images, np.eye(3, dtype=np.float32), "here", {"model": "m"})
    trial = leave_patient_out(collection)
    write_run(tmp_path, collection, trial, measure(collection, trial, device="cpu"))
    told = json.loads((tmp_path / METRICS).read_text())
    (tmp_path / METRICS).write_text(json.dumps({**told, "made": "<script>alert(1)</script>"}))
    assert "<script>" not in write_report(tmp_path).read_text()
