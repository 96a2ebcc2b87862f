"""Text that may be burned into pixels: what a header says of it, and what each policy makes of it everywhere."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from inline_pool import InlinePool
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    EnhancedUSVolumeStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    VLEndoscopicImageStorage,
    generate_uid,
)
from tiny_models import add_tiny_model

from ingest import pipeline
from ingest.pipeline import Ingestion
from ingest.report import Summary, summarise
from ingest.sources import Archive
from ingest.whole import ingest_all
from radsearch.catalogue import Catalogue
from radsearch.errors import IndexMismatchError, RadSearchError, UnreadableImageError
from radsearch.index import Stored, open_index
from radsearch.models import find_model
from radsearch.models.identity import fingerprint_for
from radsearch.models.weights import find_weights
from radsearch.privacy import Pseudonymizer
from radsearch.reading import identify, read
from radsearch.reading.burned_in import read_text_risk
from radsearch.rendering import TextPolicy, apart, render, render_with_steps
from radsearch.rendering.windowing import windowed
from radsearch.search import Embedders, QueryFile
from radsearch.settings import Settings
from radsearch.study import Facts, Greyscale, StudyImage, TextRisk
from ui.lease import Lease
from ui.originals import Originals
from ui.searching import Surroundings

CAPTURE = "text may be burned in (secondary capture), which RADSEARCH_BURNED_IN does not allow"
NO_REGIONS = "text may be burned in (ultrasound without regions), which RADSEARCH_BURNED_IN does not allow"
SAYS_SO = "text may be burned in (its header says so), which RADSEARCH_BURNED_IN does not allow"
WITH_REGIONS = "text may be burned in (ultrasound), which RADSEARCH_BURNED_IN does not allow"


def code(scheme: str, value: str) -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator, item.CodeValue = scheme, value
    return item


def region(left: int, top: int, right: int, bottom: int) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat = 1
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    return item


def risk_of(sop_class: str, *, cut_to_regions: bool = False, **elements: object) -> TextRisk | None:
    header = Dataset()
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    return read_text_risk(header, sop_class, cut_to_regions=cut_to_regions)


DEIDENTIFIED_BY = "DeidentificationMethodCodeSequence"
CLEANED = [code("DCM", "113101")]
OTHERWISE = [code("DCM", "113100")]
SCREEN = ["DERIVED", "SECONDARY", "SCREEN SAVE"]


@pytest.mark.parametrize(
    ("sop_class", "elements", "reason"),
    [
        (CTImageStorage, {}, None),
        (CTImageStorage, {"BurnedInAnnotation": "YES"}, "its header says so"),
        (CTImageStorage, {"BurnedInAnnotation": "YES", DEIDENTIFIED_BY: CLEANED}, "its header says so"),
        (CTImageStorage, {"BurnedInAnnotation": ["NO", "YES"]}, "its header says so"),
        (SecondaryCaptureImageStorage, {"BurnedInAnnotation": ["NO", ""]}, "secondary capture"),
        (CTImageStorage, {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}, None),
        (CTImageStorage, {"ImageType": SCREEN}, "screen save"),
        (CTImageStorage, {"ImageType": ["DERIVED", "SECONDARY", "", "SCREEN_SNAPSHOT"]}, "screen save"),
        (CTImageStorage, {"ImageType": SCREEN, "BurnedInAnnotation": "NO"}, "screen save"),
        (CTImageStorage, {"ImageType": SCREEN, DEIDENTIFIED_BY: CLEANED}, None),
        (CTImageStorage, {"ImageType": "ORIGINAL"}, None),
        (SecondaryCaptureImageStorage, {}, "secondary capture"),
        (MultiFrameTrueColorSecondaryCaptureImageStorage, {}, "secondary capture"),
        (SecondaryCaptureImageStorage, {"ConversionType": "SYN"}, "secondary capture"),
        (SecondaryCaptureImageStorage, {"BurnedInAnnotation": "NO"}, None),
        (SecondaryCaptureImageStorage, {DEIDENTIFIED_BY: CLEANED}, None),
        (SecondaryCaptureImageStorage, {DEIDENTIFIED_BY: OTHERWISE}, "secondary capture"),
        (ComputedRadiographyImageStorage, {"ConversionType": "DF"}, "copy of a film, a screen or a document"),
        (ComputedRadiographyImageStorage, {"ConversionType": "SYN"}, None),
        (UltrasoundImageStorage, {}, "ultrasound without regions"),
        (EnhancedUSVolumeStorage, {}, "ultrasound without regions"),
        ("1.2.840.10008.5.1.4.1.1.6", {}, "ultrasound without regions"),  # retired
        ("", {"Modality": "IVUS"}, "ultrasound without regions"),
        (UltrasoundImageStorage, {"BurnedInAnnotation": "NO"}, None),
        (VLEndoscopicImageStorage, {}, "camera"),
        ("", {"Modality": "XC"}, "camera"),
        ("", {"Modality": "OT"}, None),
    ],
)  # fmt: skip
def test_the_first_reason_of_a_header_counts(sop_class: str, elements: dict[str, object], reason: str | None) -> None:
    risk = risk_of(sop_class, **elements)
    assert (risk.reason if risk else None) == reason
    assert risk is None or not risk.cropped


@pytest.mark.parametrize("elements", [{}, {"BurnedInAnnotation": "YES"}, {"ImageType": SCREEN}])
def test_regions_help_an_ultrasound_whatever_else_is_said(elements: dict[str, object]) -> None:
    risk = risk_of(UltrasoundMultiFrameImageStorage, cut_to_regions=True, **elements)
    assert risk is not None
    assert risk.cropped


@pytest.mark.parametrize("value", [b"YES\0", b"\0yes"])
def test_an_element_of_bytes_is_read_as_its_text(value: bytes) -> None:
    header = Dataset()
    header.add(DataElement("BurnedInAnnotation", "OB", value))
    assert read_text_risk(header, CTImageStorage, cut_to_regions=False) == TextRisk("its header says so")


def test_regions_do_not_help_a_capture() -> None:
    """They may be those of the picture that was captured."""
    capture = risk_of(SecondaryCaptureImageStorage, cut_to_regions=True, Modality="US")
    assert capture == TextRisk("secondary capture", cropped=False)


@pytest.mark.parametrize(
    ("policy", "blank", "refused"),
    [
        ("refuse", False, {"cropped", "whole"}),
        ("refuse", True, {"cropped", "whole"}),
        ("crop", False, {"whole"}),
        ("crop", True, set()),
        ("allow", False, set()),
        ("allow", True, set()),
    ],
)
def test_what_each_policy_refuses(policy: str, refused: set[str], *, blank: bool) -> None:
    risks = {"cropped": TextRisk("ultrasound", cropped=True), "whole": TextRisk("camera"), "none": None}
    answers = {name: TextPolicy(policy, blank=blank).refusal(risk) for name, risk in risks.items()}
    assert {name for name, answer in answers.items() if answer} == refused


def test_rendering_says_what_was_done() -> None:
    image = StudyImage(np.zeros((4, 4), np.uint8), Greyscale(), Facts(), text_risk=TextRisk("camera"))
    assert "text may be burned in (camera): shown, as RADSEARCH_BURNED_IN=allow says" in render_with_steps(image).steps
    with pytest.raises(UnreadableImageError, match=r"^text may be burned in \(camera\), which"):
        render(image, TextPolicy("crop"))


@pytest.mark.parametrize(("rows", "words"), [(6, "100"), (3, "50")])
def test_whole_per_cents_are_said_in_whole(rows: int, words: str) -> None:
    image = StudyImage(np.full((6, 8), 200, np.uint8), Greyscale(), Facts(), text_places=((0, 0, rows, 8),))
    assert render_with_steps(image).steps[-1] == f"text: {words} % of the picture blanked"


def test_places_found_before_are_blanked_at_every_window() -> None:
    image = StudyImage(np.full((6, 8), 200, np.uint8), Greyscale(), Facts(), text_places=((1, 2, 3, 5), (2, 2, 3, 8)))
    for shown in (image, windowed(image, 100, 50)):
        rendered = render_with_steps(shown)
        assert np.argwhere(rendered.picture == 0).tolist() == [
            [1, 2], [1, 3], [1, 4], [2, 2], [2, 3], [2, 4], [2, 5], [2, 6], [2, 7],
        ]  # fmt: skip
        assert rendered.steps[-1] == "text: 19 % of the picture blanked"  # 9 of 48


class Room:
    """Four files, of which three are at risk, an index, and every way in which their pictures are shown."""

    def __init__(self, folder: Path, settings: Settings, key: Pseudonymizer) -> None:
        self.folder, self.settings, self.key = folder, settings, key

    def ingest(
        self, policy: str, model: str = "tiny", *, known_only: bool = False
    ) -> tuple[Summary, dict[str, str | None]]:
        settings = replace(self.settings, burned_in=policy)
        spec = find_model(model)
        prints = [fingerprint_for(spec, find_weights(spec, settings.models_folder), settings)]
        with open_index(settings, create_for=prints) as index:
            index.admit(prints, self.key.check)
            with Ingestion(index, [spec], settings, self.key) as ingestion:
                ingestion.known_only = known_only
                ingest_all(ingestion, lambda: Archive(self.folder).files(self.key), lambda: None)
                summary = summarise(ingestion.accounts, prints, 1.0)
                files = {file: reason or outcome for file, outcome, reason in ingestion.accounts.files()}
        return summary, files

    def indexed(self) -> set[str]:
        """The names of the files that the index holds."""
        instances = {identify(path, self.key, name=str(path)).instance: path.stem for path in self.folder.iterdir()}
        with open_index(self.settings) as index:
            return {instances[point.payload["instance"]] for point in index.having("instance", list(instances))}

    def original(self, name: str, policy: str) -> StudyImage:
        path = self.folder / name
        identity = identify(path, self.key, name=str(path))
        settings = replace(self.settings, burned_in=policy, catalogue=self.folder.parent / "catalogue.sqlite")
        Catalogue(settings.catalogue).record([(identity.instance, path)])
        point = Stored(
            self.key.point_id(identity.instance, 1),
            {"instance": identity.instance, "content": identity.content, "frame": 1, "frames": 1},
        )
        return Originals(settings).frame(point, 1)


@pytest.fixture
def room(
    tmp_path: Path, settings: Settings, pseudonymizer: Pseudonymizer, monkeypatch: pytest.MonkeyPatch,
    write_dicom: Callable[..., Path],
) -> Iterator[Room]:  # fmt: skip
    monkeypatch.setattr(pipeline, "IsolatedPool", InlinePool)
    apart.close_readers()
    monkeypatch.setattr(apart, "IsolatedPool", InlinePool)
    add_tiny_model(monkeypatch, tmp_path / "models", "tiny", seed=1)
    pixels = np.random.default_rng(4).integers(0, 255, (12, 16), dtype=np.uint8)
    write_dicom("archive/plain.dcm", pixels)
    write_dicom("archive/capture.dcm", pixels, SOPClassUID=SecondaryCaptureImageStorage, Modality="OT")
    write_dicom("archive/whole.dcm", pixels, SOPClassUID=UltrasoundImageStorage, Modality="US")
    write_dicom(
        "archive/cut.dcm", pixels, SOPClassUID=UltrasoundImageStorage, Modality="US",
        SequenceOfUltrasoundRegions=[region(2, 3, 13, 10)],
    )  # fmt: skip
    settings = replace(settings, models_folder=tmp_path / "models", device="cpu", model="tiny")
    yield Room(tmp_path / "archive", replace(settings, secret=pseudonymizer.secret.decode()), pseudonymizer)
    apart.close_readers()


def test_an_ingest_counts_what_it_refuses_under_the_reason(room: Room) -> None:
    summary, files = room.ingest("crop")
    assert files == {"plain.dcm": "indexed", "cut.dcm": "indexed", "capture.dcm": CAPTURE, "whole.dcm": NO_REGIONS}
    assert (summary.found, summary.indexed, summary.refused) == (4, 2, {CAPTURE: 1, NO_REGIONS: 1})
    assert room.indexed() == {"plain", "cut"}


def test_a_stricter_ingest_takes_out_of_the_index_what_it_refuses(room: Room) -> None:
    assert room.ingest("allow")[0].indexed == 4
    assert room.indexed() == {"plain", "cut", "capture", "whole"}
    summary, _ = room.ingest("crop")
    assert (summary.unchanged, summary.refused) == (2, {CAPTURE: 1, NO_REGIONS: 1})
    assert summary.images_taken_out == 2
    assert "2 refused; 2 images taken out of the index; 1.0 s" in summary.lines()[0]
    assert room.indexed() == {"plain", "cut"}
    assert room.ingest("crop")[0].images_taken_out == 0
    summary, _ = room.ingest("refuse")
    assert (summary.unchanged, summary.refused) == (1, {CAPTURE: 1, NO_REGIONS: 1, WITH_REGIONS: 1})
    assert room.indexed() == {"plain"}
    assert room.ingest("allow")[0].indexed == 3


@pytest.mark.parametrize("known_only", [False, True])
def test_an_allowed_copy_of_a_refused_file_stays_in_the_index(
    room: Room, write_dicom: Callable[..., Path], *, known_only: bool
) -> None:
    """Both have one SOP Instance UID; the refused one comes first, in every run."""
    uid = generate_uid()
    pixels = np.random.default_rng(5).integers(0, 255, (12, 16), dtype=np.uint8)
    write_dicom("archive/a.dcm", pixels, SOPInstanceUID=uid, BurnedInAnnotation="YES")
    write_dicom("archive/b.dcm", pixels, SOPInstanceUID=uid)
    _, files = room.ingest("crop")
    assert (files["a.dcm"], files["b.dcm"]) == (SAYS_SO, "indexed")
    summary, files = room.ingest("crop", known_only=known_only)
    assert (files["a.dcm"], files["b.dcm"], summary.images_taken_out) == (SAYS_SO, "unchanged", 0)


def test_a_file_that_is_said_to_have_text_later_leaves_the_index(room: Room, write_dicom: Callable[..., Path]) -> None:
    """Its bytes are others then, and its pixels the same."""
    uid = generate_uid()
    write_dicom("archive/a.dcm", SOPInstanceUID=uid)
    room.ingest("crop")
    assert "a" in room.indexed()
    write_dicom("archive/a.dcm", SOPInstanceUID=uid, BurnedInAnnotation="YES")
    summary, files = room.ingest("crop")
    assert (files["a.dcm"], summary.images_taken_out) == (SAYS_SO, 1)
    assert room.indexed() == {"plain", "cut"}


@pytest.mark.parametrize("first", [0, 1])
def test_an_index_is_blanked_as_a_whole_or_not_at_all(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """A further model would replace the thumbnails of the first."""
    add_tiny_model(monkeypatch, tmp_path / "models", "other", seed=2)
    monkeypatch.setattr("radsearch.rendering.burned_in.find_text", lambda _: ())
    room.settings = replace(room.settings, blank_text=first)
    room.ingest("allow")
    room.settings = replace(room.settings, blank_text=1 - first)
    for model in ("other", "tiny"):
        with pytest.raises(IndexMismatchError, match=f"set RADSEARCH_BLANK_TEXT to {first}, or build a new index"):
            room.ingest("allow", model)
    room.settings = replace(room.settings, blank_text=first)
    assert room.ingest("allow", "other")[0].indexed == 4


@pytest.mark.parametrize(("made", "shown", "refused"), [(0, 0, False), (0, 1, False), (1, 1, False), (1, 0, True)])
def test_the_page_shows_no_text_beside_an_index_without(
    room: Room, monkeypatch: pytest.MonkeyPatch, made: int, shown: int, *, refused: bool
) -> None:
    monkeypatch.setattr("radsearch.rendering.burned_in.find_text", lambda _: ())
    room.settings = replace(room.settings, blank_text=made)
    room.ingest("allow")
    settings = replace(room.settings, blank_text=shown)
    around = Surroundings(settings, Lease(settings), Embedders(settings), Originals(settings))
    words = "was made with text blanked: set RADSEARCH_BLANK_TEXT to 1"
    with pytest.raises(IndexMismatchError, match=words) if refused else nullcontext(), around.index() as index:
        assert index.count() == 4


@pytest.mark.parametrize(
    ("name", "policy", "shape"),
    [
        ("capture.dcm", "crop", None),
        ("whole.dcm", "crop", None),
        ("cut.dcm", "crop", (8, 12)),
        ("cut.dcm", "refuse", None),
        ("cut.dcm", "allow", (8, 12)),
        ("capture.dcm", "allow", (12, 16)),
        ("plain.dcm", "refuse", (12, 16)),
    ],
)
def test_a_query_and_an_original_are_shown_as_the_ingest_would(
    room: Room, name: str, policy: str, shape: tuple[int, int] | None
) -> None:
    settings = replace(room.settings, burned_in=policy)
    query = QueryFile(room.folder / name, settings, room.key)
    if shape is None:
        with pytest.raises(UnreadableImageError, match="text may be burned in"):
            _ = query.shown
        with pytest.raises(RadSearchError, match=r"The original is not shown: text may be burned in"):
            room.original(name, policy)
        return
    assert query.shown.rendered.picture.shape == shape
    original = room.original(name, policy)
    assert Originals(settings).render(original).picture.tolist() == query.shown.rendered.picture.tolist()
    assert Originals(settings).render(windowed(original, 100, 50)).picture.shape == shape


@pytest.mark.parametrize(
    ("edges", "reason"),
    [
        ((0, 0, 159, 119), "ultrasound without regions"),
        ((0, 0, 158, 118), "ultrasound without regions"),  # a pixel off, as some machines count
        ((3, 2, 156, 117), "ultrasound without regions"),  # 2 of 120 rows and 3 of 160 columns at each edge
        ((0, 3, 159, 119), "ultrasound"),
        ((0, 0, 155, 119), "ultrasound"),
    ],
)
def test_regions_beside_which_there_is_no_room_for_text_cut_none_off(
    room: Room, write_dicom: Callable[..., Path], edges: tuple[int, int, int, int], reason: str
) -> None:
    path = write_dicom(
        "one.dcm", np.zeros((120, 160), np.uint8), Modality="US", SequenceOfUltrasoundRegions=[region(*edges)]
    )
    risk = identify(path, room.key, name="").text_risk
    assert risk == TextRisk(reason, cropped=reason == "ultrasound")
    (image,) = read(path, room.key)
    assert image.text_risk == risk


def test_the_risk_is_the_same_before_and_after_decoding(room: Room) -> None:
    for path in room.folder.iterdir():
        (image,) = read(path, room.key)
        assert image.text_risk == identify(path, room.key, name="").text_risk


def test_of_a_picture_without_a_header_nothing_is_said(
    room: Room, write_png: Callable[..., Path], pseudonymizer: Pseudonymizer
) -> None:
    path = write_png()
    assert identify(path, pseudonymizer, name="").text_risk is None
    assert QueryFile(path, replace(room.settings, burned_in="refuse"), room.key).shown.rendered.picture.shape == (
        48,
        40,
    )


def test_blanked_and_whole_pictures_have_different_fingerprints(room: Room) -> None:
    spec = find_model("tiny")
    weights = find_weights(spec, room.settings.models_folder)
    whole = fingerprint_for(spec, weights, room.settings)
    blanked = fingerprint_for(spec, weights, replace(room.settings, blank_text=1))
    assert whole.differences(blanked) == [
        f"preprocessing: {whole.preprocessing} -> {whole.preprocessing}; text blanked (version 2)"
    ]


def test_all_that_shows_pictures_says_by_which_policy() -> None:
    """`render` without one shows everything: that is for tests, benchmarks and the demo's public files."""
    root = Path(__file__).resolve().parents[1]
    calls = [
        line.strip()
        for folder in ("radsearch", "ingest", "ui", "evaluation", "flows")
        for path in (root / folder).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "render(" in line or "render_with_steps(" in line
    ]
    named = ("olicy", "originals.render(", "self.render(")  # of the settings, or of `Originals`, which gives theirs
    assert [line for line in calls if not line.startswith("def ") and not any(name in line for name in named)] == []
