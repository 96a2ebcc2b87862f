"""The terms that may leave a header, and what is no picture by its SOP class."""

import pydicom.uid
import pytest

from radsearch.reading.vocabulary import MANUFACTURERS, REGIONS, age_in_years, manufacturer_word, no_picture_reason


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("045Y", 45),
        ("000Y", 0),
        ("011M", 0),
        ("012M", 1),
        ("030M", 2),
        ("051W", 0),
        ("104W", 2),
        ("364D", 0),
        ("730D", 2),
        (" 045y ", 45),
        ("45", 45),
        ("7.5", 7),
        ("089Y", 89),
        ("090Y", 90),
        ("101Y", 90),
        ("999", 90),
    ],
)
def test_an_age_is_whole_years_and_90_stands_for_all_above_89(text, years):
    assert age_in_years(text) == years


@pytest.mark.parametrize("text", ["", "Y", "unknown", "-5", "0045Y", "045Y Smith", "4 5Y", "045X", "nan"])
def test_what_is_no_age_gives_none(text):
    assert age_in_years(text) is None


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("SIEMENS", "Siemens"),
        ("Siemens Healthineers", "Siemens"),
        ("GE MEDICAL SYSTEMS", "GE"),
        ("Philips Medical Systems, Inc.", "Philips"),
        ("TOSHIBA_MEC", "Toshiba"),
        ("FUJIFILM Corporation", "Fuji"),
        ("KONICA MINOLTA", "Konica"),
        ("CMS,Inc.", "CMS"),
        ("United Imaging Healthcare", "United Imaging"),
    ],
)
def test_a_manufacturer_is_known_by_its_word(text, word):
    assert manufacturer_word(text) == word


@pytest.mark.parametrize("text", ["", "Dr Smith's device", "GENERIC", "Agent 7", "United Airlines", "CMSX"])
def test_any_other_manufacturer_text_stays_behind(text):
    assert manufacturer_word(text) is None


def test_only_listed_words_can_come_out_of_a_manufacturer_text():
    assert manufacturer_word("Philips, scanner of John Smith") in MANUFACTURERS


@pytest.mark.parametrize(
    ("sop_class", "reason"),
    [
        (pydicom.uid.MediaStorageDirectoryStorage, "DICOMDIR"),
        (pydicom.uid.GrayscaleSoftcopyPresentationStateStorage, "presentation state"),
        (pydicom.uid.TwelveLeadECGWaveformStorage, "waveform"),
        (pydicom.uid.RawDataStorage, "raw data, registration or segmentation"),
        (pydicom.uid.SegmentationStorage, "raw data, registration or segmentation"),
        (pydicom.uid.SpatialRegistrationStorage, "raw data, registration or segmentation"),
        (pydicom.uid.VLWholeSlideMicroscopyImageStorage, "whole-slide microscopy"),
        (pydicom.uid.BasicTextSRStorage, "structured report or key object selection"),
        (pydicom.uid.KeyObjectSelectionDocumentStorage, "structured report or key object selection"),
        (pydicom.uid.EncapsulatedPDFStorage, "encapsulated document"),
        (pydicom.uid.ParametricMapStorage, "parametric map"),
        (pydicom.uid.RTDoseStorage, "radiotherapy dose"),
        (pydicom.uid.RTStructureSetStorage, "radiotherapy structure set"),
        (pydicom.uid.RTPlanStorage, "radiotherapy plan"),
    ],
)
def test_what_holds_no_picture_is_known_by_its_sop_class(sop_class, reason):
    assert no_picture_reason(str(sop_class)) == reason


@pytest.mark.parametrize(
    "sop_class",
    [
        pydicom.uid.RTIonPlanStorage,
        pydicom.uid.RTBeamsTreatmentRecordStorage,
        pydicom.uid.RTIonBeamsTreatmentRecordStorage,
        pydicom.uid.MRSpectroscopyStorage,
    ],
    ids=lambda uid: uid.keyword,
)
def test_radiotherapy_records_and_spectra_hold_no_picture_either(sop_class):
    assert no_picture_reason(str(sop_class)) is not None


@pytest.mark.parametrize(
    "sop_class",
    [
        "",
        pydicom.uid.CTImageStorage,
        pydicom.uid.EnhancedCTImageStorage,
        pydicom.uid.MRImageStorage,
        pydicom.uid.ComputedRadiographyImageStorage,
        pydicom.uid.DigitalXRayImageStorageForPresentation,
        pydicom.uid.DigitalMammographyXRayImageStorageForPresentation,
        pydicom.uid.BreastTomosynthesisImageStorage,
        pydicom.uid.UltrasoundMultiFrameImageStorage,
        pydicom.uid.SecondaryCaptureImageStorage,
        pydicom.uid.PositronEmissionTomographyImageStorage,
        pydicom.uid.NuclearMedicineImageStorage,
        pydicom.uid.OphthalmicPhotography8BitImageStorage,
        pydicom.uid.RTImageStorage,
        pydicom.uid.VLPhotographicImageStorage,
    ],
)
def test_pictures_are_not_skipped(sop_class):
    assert no_picture_reason(str(sop_class)) is None


def test_a_uid_counts_by_its_parts_not_by_its_letters():
    assert no_picture_reason("1.2.840.10008.5.1.4.1.1.88") is not None
    assert no_picture_reason("1.2.840.10008.5.1.4.1.1.881") is None


def test_the_regions_are_keyed_by_bare_capitals():
    assert all(code.isascii() and code.isalpha() and code.isupper() for code in REGIONS)
