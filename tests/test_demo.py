"""The demo's own parts: labels from contours, and the contact sheet."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import RTStructureSetStorage

from demo.sheet import Row, Tile, draw_sheet
from demo.studies import _write_manifest


def test_slice_is_labelled_tumor_where_a_contour_lies_in_its_plane(
    tmp_path: Path, write_dicom: Callable[..., Path]
) -> None:
    for number, height in enumerate((0.0, 3.0, 6.0)):
        write_dicom(
            f"lung/pat_1/{number}.dcm", ImagePositionPatient=[0, 0, height], SliceThickness=3, InstanceNumber=number
        )
    structures = dcmread(write_dicom("lung/pat_1/rs.dcm", SOPClassUID=RTStructureSetStorage, Modality="RTSTRUCT"))
    contour, structure = Dataset(), Dataset()
    contour.ContourData = [1.0, 2.0, 3.2, 4.0, 5.0, 3.2]
    structure.ContourSequence = [contour]
    structures.ROIContourSequence = [structure]
    structures.save_as(tmp_path / "lung" / "pat_1" / "rs.dcm")
    _write_manifest(tmp_path / "lung", tmp_path / "lung" / "manifest.csv")
    with (tmp_path / "lung" / "manifest.csv").open(encoding="utf-8") as stream:
        labels = {row["filepath"]: row["labels"] for row in csv.DictReader(stream)}
    assert labels == {"pat_1/0.dcm": "No Finding", "pat_1/1.dcm": "Tumor", "pat_1/2.dcm": "No Finding"}


def test_sheet_has_the_query_first_and_each_picture_in_its_place(tmp_path: Path) -> None:
    white, black = np.full((50, 50), 255, np.uint8), np.zeros((50, 50, 3), np.uint8)
    row = Row("a title", Tile(white, "query", "a"), [Tile(black, "1.  0.9", "b" * 100)])
    draw_sheet([row], tmp_path / "sheet.png")
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.size == (410, 274)
    assert sheet.getpixel((105, 133)) == (255, 255, 255)
    assert sheet.getpixel((305, 133)) == (0, 0, 0)
