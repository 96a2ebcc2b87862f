"""Synthetic studies in which whatever may say who a patient is holds a mark: real files, to be let in."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from marks import GREEK, JAPANESE, LATIN, Marks
from PIL import Image, PngImagePlugin
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
)

TEXT_VRS = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT")
BYTE_VRS = ("OB", "UN")
SIDE = 64
STRIP = 16  # rows above an ultrasound picture's region, where names are burned in
# Elements whose values have to be right for a file to be read at all, and the window, which the page's viewer shows.
_STORAGE_WORDS = {"SOPClassUID", "SpecificCharacterSet", "PixelData", "NumberOfFrames", "PhotometricInterpretation"}
_STORAGE_TABLES = {
    "ModalityLUTSequence", "VOILUTSequence", "SequenceOfUltrasoundRegions", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing",
    "NominalScannedPixelSpacing", "FrameIncrementPointer", "WindowCenter", "WindowWidth",
}  # fmt: skip
_CREATORS = ((0x0009, "SIEMENS CT VA0  COAD"), (0x0019, "GEMS_ACQU_01"), (0x2001, "Philips Imaging DD 001"))


@dataclass(frozen=True, slots=True)
class Element:
    """One of the dictionary's (PS3.6), or of a repeating group's."""

    tag: int
    vr: str
    keyword: str


def elements(*vrs: str) -> Iterator[Element]:
    """All standard elements of a value representation that a data set may hold, as far as a mark can stand in them."""
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        usable = vr in vrs and keyword and 0x0004 < tag >> 16 < 0x7FE0
        if usable and keyword not in _STORAGE_WORDS | _STORAGE_TABLES:
            yield Element(tag, vr, keyword)
    for group in (0x5000, 0x6000):
        for number, vr, keyword in ((0x0022, "LO", "Description"), (0x1500, "LO", "Label"), (0x4000, "LT", "Comments")):
            if vr in vrs:
                yield Element(group << 16 | number, vr, f"{keyword}{group:04X}")


def planted(marks: Marks, *, sequences: bool = False) -> Dataset:
    """A data set with a mark in every element of text, in private elements and, where asked for, in every sequence."""
    dataset = Dataset()
    for one in elements(*TEXT_VRS):
        dataset.add_new(one.tag, one.vr, marks.of(one.vr, one.keyword))
    for one in elements(*BYTE_VRS):
        dataset.add_new(one.tag, one.vr, _even(marks.of(one.vr, one.keyword)))
    dataset.add_new(0x60003000, "OW", _even(marks.of("OW", "OverlayData")))
    for one in elements("SQ") if sequences else ():
        dataset.add_new(one.tag, "SQ", [_item(marks, one.keyword)])
    for group, creator in (*_CREATORS, (0x0029, marks.text("private creator"))):
        _plant_private(dataset, marks, group, creator)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    return dataset


def _item(marks: Marks, where: str) -> Dataset:
    """What lies in a sequence: a patient, a code with its meaning, content of a report, and one level more of them."""
    item, deeper = Dataset(), Dataset()
    for dataset, level in ((item, ""), (deeper, " within")):
        dataset.PatientName = marks.of("PN", f"{where}{level}.PatientName")
        dataset.PatientID = marks.of("LO", f"{where}{level}.PatientID")
        dataset.CodeMeaning = marks.of("LO", f"{where}{level}.CodeMeaning")
        dataset.CodeValue = marks.of("SH", f"{where}{level}.CodeValue")
        dataset.TextValue = marks.of("UT", f"{where}{level}.TextValue")
        dataset.ReferencedSOPInstanceUID = marks.of("UI", f"{where}{level}.ReferencedSOPInstanceUID")
        dataset.AccessionNumber = marks.of("SH", f"{where}{level}.AccessionNumber")
    item.ContentSequence = [deeper]
    return item


def _plant_private(dataset: Dataset, marks: Marks, group: int, creator: str) -> None:
    block = dataset.private_block(group, creator, create=True)
    for number, vr in enumerate(TEXT_VRS):
        block.add_new(number, vr, marks.of(vr, f"private {group:04X} {vr}"))
    for number, vr in enumerate((*BYTE_VRS, "OW"), len(TEXT_VRS)):
        block.add_new(number, vr, _even(marks.of(vr, f"private {group:04X} {vr}")))
    inner = Dataset()
    inner.PatientName = marks.of("PN", f"private {group:04X} PatientName")
    block.add_new(0x40, "SQ", [inner])


def _even(text: str) -> bytes:
    raw = text.encode()
    return raw + b" " * (len(raw) % 2)


def with_pixels(dataset: Dataset, pixels: "np.ndarray", sop_class: str = CTImageStorage) -> Dataset:
    """(rows, columns), (frames, rows, columns) or (rows, columns, 3) of uint8 or int16, so that it is a picture."""
    colour = pixels.shape[-1] == 3
    dataset.SOPClassUID = sop_class
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    if pixels.ndim == 3 and not colour:
        dataset.NumberOfFrames = len(pixels)
    bits = 8 * pixels.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def write(dataset: Dataset, path: Path, marks: Marks, syntax: str = ExplicitVRLittleEndian) -> Path:
    """As a file of PS3.10, with marks in its meta information, in its preamble and behind its end."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", CTImageStorage)
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    for keyword in ("SourceApplicationEntityTitle", "SendingApplicationEntityTitle", "ReceivingApplicationEntityTitle"):
        setattr(meta, keyword, marks.of("AE", keyword))
    meta.ImplementationVersionName = marks.of("SH", "ImplementationVersionName")
    meta.PrivateInformationCreatorUID = marks.of("UI", "PrivateInformationCreatorUID")
    meta.PrivateInformation = _even(marks.of("OB", "PrivateInformation"))
    dataset.file_meta = meta
    dataset.preamble = marks.text("preamble").encode().ljust(128, b"\0")
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    with path.open("ab") as stream:
        trailing = _even(marks.text("behind the end"))
        stream.write(b"\xfc\xff\xfc\xffOB\0\0" + len(trailing).to_bytes(4, "little") + trailing)
    return path


def noise(seed: int, *shape: int) -> "np.ndarray":
    return np.random.default_rng(seed).integers(20, 120, shape, dtype=np.uint8)


def known(dataset: Dataset, marks: Marks, number: int, modality: str) -> Dataset:
    """Of a patient of its own, with words that may leave where there are such: what stands beside them may not."""
    dataset.Modality, dataset.PatientSex, dataset.BodyPartExamined = modality, "F", "CHEST"
    dataset.Manufacturer = f"SIEMENS {marks.text('Manufacturer beside a known word')}"
    for keyword in ("PatientID", "AccessionNumber", "StudyID"):
        setattr(dataset, keyword, marks.of("SH", f"{keyword} {number}"))
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(dataset, keyword, marks.of("UI", f"{keyword} {number}"))
    return dataset


def ultrasound(marks: Marks, number: int) -> Dataset:
    """Of one region; above it a strip of black and white, as burned-in names are: no picture of ours may show it."""
    pixels = noise(number, SIDE + STRIP, SIDE, 3) // 2
    pixels[:STRIP] = 255 * (np.indices((STRIP, SIDE)).sum(0) // 4 % 2)[..., None]
    dataset = with_pixels(known(planted(marks), marks, number, "US"), pixels, UltrasoundImageStorage)
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, STRIP
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = SIDE - 1, SIDE + STRIP - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.1
    dataset.SequenceOfUltrasoundRegions = [region]
    return dataset


def enhanced(marks: Marks, number: int) -> Dataset:
    dataset = known(planted(marks, sequences=True), marks, number, "CT")
    with_pixels(dataset, noise(number, 3, SIDE, SIDE), EnhancedCTImageStorage)
    group = Dataset()
    group.FrameAnatomySequence = [_item(marks, "FrameAnatomySequence")]
    group.FrameContentSequence = [_item(marks, "FrameContentSequence")]
    dataset.SharedFunctionalGroupsSequence = [group]
    dataset.PerFrameFunctionalGroupsSequence = [group, group, group]
    return dataset


def in_japanese(marks: Marks, number: int) -> Dataset:
    """In a character set that changes within a value (PS3.5 6.1.2.5)."""
    dataset = with_pixels(known(planted(marks), marks, number, "DX"), noise(number, SIDE, SIDE))
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    for one in list(dataset.iterall()):
        if one.VR == "PN":
            one.value = f"{marks.of('LO', f'{one.keyword} in Japanese')}^A={JAPANESE}^{JAPANESE}"
    dataset.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    return dataset


def jpeg(marks: Marks, where: str, seed: int) -> bytes:
    """A JPEG with marks in its comment, its EXIF, its XMP and its colour profile."""
    picture = Image.fromarray(noise(seed, SIDE, SIDE))
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = marks.text(f"EXIF description of {where}"), marks.text(f"EXIF artist of {where}")
    exif[0x0132] = f"{marks.text(f'EXIF date of {where}')}"
    stream = io.BytesIO()
    picture.save(
        stream, "JPEG", quality=95, exif=exif, comment=marks.text(f"comment of {where}").encode(),
        xmp=f"<x>{marks.text(f'XMP of {where}')}</x>".encode(),
        icc_profile=marks.text(f"colour profile of {where}").encode().ljust(128),
    )  # fmt: skip
    return stream.getvalue()


def secondary_capture(marks: Marks, number: int) -> Dataset:
    """Encapsulated JPEG with marks of its own; to be written with its transfer syntax."""
    dataset = with_pixels(
        known(planted(marks), marks, number, "OT"), noise(number, SIDE, SIDE), SecondaryCaptureImageStorage
    )
    dataset.BurnedInAnnotation = "NO"  # else it is refused, and its marks would not go through all of the system
    dataset.PixelData = encapsulate([jpeg(marks, "the encapsulated JPEG", number)])
    dataset["PixelData"].VR = "OB"
    return dataset


def write_png(marks: Marks, path: Path, seed: int) -> Path:
    said = PngImagePlugin.PngInfo()
    said.add_text("Patient", marks.text("tEXt"))
    said.add_text("Description", marks.text("zTXt"), zip=True)
    said.add_itxt("XML:com.adobe.xmp", f"<x>{marks.text('iTXt')} {LATIN}</x>", zip=True)
    exif = Image.Exif()
    exif[0x010E] = marks.text("EXIF of PNG")
    Image.fromarray(noise(seed, SIDE, SIDE)).save(path, pnginfo=said, exif=exif)
    return path


def write_nifti(marks: Marks, path: Path, seed: int) -> Path:
    volume = nibabel.Nifti1Image(noise(seed, SIDE, SIDE, 3), np.eye(4))
    volume.header["descrip"] = marks.text("descrip").encode()
    volume.header["aux_file"] = marks.text("aux_file").encode()
    volume.header["db_name"] = marks.text("db_name").encode()
    volume.header["intent_name"] = marks.text("intent_name").encode()
    for code in (2, 4, 6):  # DICOM, AFNI, comment
        extension = nibabel.nifti1.Nifti1Extension(code, marks.text(f"NIfTI extension {code}").encode())
        volume.header.extensions.append(extension)
    nibabel.save(volume, path)
    return path


def write_refused(marks: Marks, folder: Path) -> list[Path]:
    """Files that are no pictures, or damaged ones, each with marks where a message might quote it."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []

    def place(what: str, suffix: str = ".dcm") -> Path:
        paths.append(folder / f"{marks.name(f'file: {what}')}{suffix}")
        return paths[-1]

    whole = with_pixels(known(planted(marks), marks, 90, "CT"), noise(90, SIDE, SIDE))
    raw = write(whole, place("copy to be cut"), marks).read_bytes()
    place("cut header").write_bytes(raw[: len(raw) // 3])
    place("cut pixels").write_bytes(raw[:-2000])
    for keyword, vr in (("PhotometricInterpretation", "CS"), ("NumberOfFrames", "IS"), ("RescaleSlope", "DS")):
        spoilt = with_pixels(known(planted(marks), marks, 91, "CT"), noise(91, SIDE, SIDE))
        spoilt.SOPInstanceUID = marks.of("UI", f"SOPInstanceUID beside a wrong {keyword}")
        spoilt.add_new(keyword, "LO", marks.text(f"wrong {keyword}"))
        whole_file = write(spoilt, place(f"wrong {keyword}"), marks)
        head = spoilt[keyword].tag.group.to_bytes(2, "little") + spoilt[keyword].tag.element.to_bytes(2, "little")
        whole_file.write_bytes(whole_file.read_bytes().replace(head + b"LO", head + vr.encode()))
    foreign = with_pixels(known(planted(marks), marks, 92, "CT"), noise(92, SIDE, SIDE))
    foreign.SOPInstanceUID = marks.of("UI", "SOPInstanceUID beside an unknown syntax")
    write(foreign, place("unknown syntax"), marks)
    known_syntax = f"{ExplicitVRLittleEndian}\0".encode()
    unknown_syntax = marks.of("UI", "syntax").encode()[: len(known_syntax)]  # of the same length
    paths[-1].write_bytes(paths[-1].read_bytes().replace(known_syntax, unknown_syntax.ljust(len(known_syntax), b"\0")))
    report = planted(marks)
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    write(report, place("structured report"), marks)
    broken = secondary_capture(marks, 93)
    cut = jpeg(marks, "the damaged JPEG", 93)[:900]
    broken.PixelData = encapsulate([cut + marks.text("in a JPEG's data").encode()])
    write(broken, place("damaged JPEG in DICOM"), marks, JPEGBaseline8Bit)
    place("notes", ".txt").write_text(f"notes on {marks.text('a text file')}")
    place("damaged JPEG", ".jpg").write_bytes(jpeg(marks, "the cut JPEG", 94)[:700])
    png = write_png(marks, place("cut PNG", ".png"), 95)
    png.write_bytes(png.read_bytes()[:-400])
    nifti = write_nifti(marks, place("cut NIfTI", ".nii"), 96)
    nifti.write_bytes(nifti.read_bytes()[:700])
    place("empty").touch()
    place("link").symlink_to(folder / marks.name("target of a link"))
    return paths


def write_archive(marks: Marks, folder: Path) -> dict[str, Path]:
    """An archive of all kinds of pictures, and of what is refused; every name below the folder holds a mark."""
    patient = folder / marks.name("folder") / f"{GREEK} {marks.name('folder with a space')}"
    patient.mkdir(parents=True)

    def place(kind: str, suffix: str = ".dcm") -> Path:
        return patient / f"{marks.name(f'file: {kind}')} (1){suffix}"

    files = {
        "all marks": write(
            with_pixels(planted(marks, sequences=True), noise(1, SIDE, SIDE)), place("all marks"), marks
        ),
        "ct": write(
            with_pixels(known(planted(marks, sequences=True), marks, 2, "CT"), noise(2, SIDE, SIDE).astype(np.int16)),
            place("ct"),
            marks,
        ),
        "ultrasound": write(ultrasound(marks, 3), place("ultrasound"), marks),
        "enhanced": write(enhanced(marks, 4), place("enhanced"), marks),
        "japanese": write(in_japanese(marks, 5), place("japanese", ""), marks),
        "secondary capture": write(secondary_capture(marks, 6), place("secondary capture"), marks, JPEGBaseline8Bit),
        "png": write_png(marks, place("png", ".png"), 7),
        "nifti": write_nifti(marks, place("nifti", ".nii"), 8),
        "packed nifti": write_nifti(marks, place("packed nifti", ".nii.gz"), 9),
    }
    files["jpeg"] = place("jpeg", ".jpg")
    files["jpeg"].write_bytes(jpeg(marks, "the JPEG", 10))
    write_refused(marks, folder / marks.name("folder of refused files"))
    return files


def write_listed(marks: Marks, folder: Path) -> Path:
    """An archive with a manifest in which patients, studies, series and paths are marks; returns the manifest."""
    rows = []
    for number in range(12):
        path = folder / marks.name("listed folder") / f"{marks.name('listed file')}.dcm"
        pixels = noise(20 + number, SIDE, SIDE) // (1 + number % 2)
        write(with_pixels(known(planted(marks), marks, 20 + number, "CT"), pixels), path, marks)
        rows.append({
            "filepath": str(path.relative_to(folder)),
            "modality": "CT",
            "region": "chest",
            "labels": "Mass" if number % 2 else "No Finding",
            "sex": marks.text("sex of a manifest"),
            "age": marks.text("age of a manifest"),
            **{kind: marks.text(f"{kind} {number} of a manifest") for kind in ("patient", "study", "series")},
        })  # fmt: skip
    rows.append({**rows[0], "filepath": f"{marks.name('missing file')}.dcm"})
    rows.append({**rows[0], "modality": marks.text("unknown modality of a manifest")})
    rows.append({**rows[0], "filepath": f"../{marks.name('file outside')}.dcm"})
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, rows[0])
        table.writeheader()
        table.writerows(rows)
    return folder / "manifest.csv"
