"""The terms that may leave a header, and what is no picture by its SOP class."""

import re
from datetime import date

import pydicom.uid
import pytest
from pydicom._uid_dict import UID_dictionary
from pydicom.sr import _concepts_dict, _snomed_dict

from radsearch.reading.anatomy import (
    FURTHER_TERMS,
    OTHER_WORDS,
    PLACES,
    REGIONS,
    TERMS,
    place_of_code,
    region_of_words,
    term_of_words,
)
from radsearch.reading.vocabulary import (
    CODED_LATERALITIES,
    CODED_VIEWS,
    LATERALITIES,
    MANUFACTURERS,
    NO_PICTURE,
    VIEW_WORDS,
    VIEWS,
    age_between,
    age_in_years,
    date_of,
    manufacturer_word,
    no_picture_reason,
    view_of_words,
)


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
        ("UIH", "United Imaging"),
        ("GE_HEALTHCARE", "GE"),
        ("G.E. Medical Systems", "GE"),
        ("General Electric Company", "GE"),
        ("SAMSUNG MEDISON CO., LTD.", "Samsung"),
        ("Medison", "Samsung"),
        ("ACUSON", "Siemens"),
        ("Carl Zeiss Meditec", "Carl Zeiss"),
        ("EOS imaging", "EOS Imaging"),
    ],
)
def test_a_manufacturer_is_known_by_its_word(text, word):
    assert manufacturer_word(text) == word


@pytest.mark.parametrize(
    "text", ["", "Dr Smith's device", "GENERIC", "Agent 7", "United Airlines", "CMSX", "Picker", "General Smith"]
)
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
        (pydicom.uid.RawDataStorage, "raw data"),
        (pydicom.uid.SpatialRegistrationStorage, "spatial registration"),
        (pydicom.uid.SpatialFiducialsStorage, "spatial fiducials"),
        (pydicom.uid.DeformableSpatialRegistrationStorage, "spatial registration"),
        (pydicom.uid.SegmentationStorage, "segmentation"),
        (pydicom.uid.SurfaceSegmentationStorage, "surface segmentation"),
        (pydicom.uid.TractographyResultsStorage, "tractography"),
        ("1.2.840.10008.5.1.4.1.1.66.7", "segmentation"),  # Label Map Segmentation, younger than pydicom's dictionary
        ("1.2.840.10008.5.1.4.1.1.66.8", "height map"),
        (pydicom.uid.RealWorldValueMappingStorage, "real world value mapping"),
        (pydicom.uid.SurfaceScanMeshStorage, "surface scan"),
        (pydicom.uid.SurfaceScanPointCloudStorage, "surface scan"),
        (pydicom.uid.StereometricRelationshipStorage, "stereometric relationship"),
        (pydicom.uid.VLWholeSlideMicroscopyImageStorage, "whole-slide microscopy"),
        (pydicom.uid.KeratometryMeasurementsStorage, "ophthalmic measurement"),
        (pydicom.uid.BasicTextSRStorage, "structured report"),
        (pydicom.uid.XRayRadiationDoseSRStorage, "structured report"),
        (pydicom.uid.KeyObjectSelectionDocumentStorage, "key object selection"),
        (pydicom.uid.ContentAssessmentResultsStorage, "content assessment"),
        (pydicom.uid.EncapsulatedPDFStorage, "encapsulated document"),
        (pydicom.uid.EncapsulatedCDAStorage, "encapsulated document"),
        (pydicom.uid.EncapsulatedSTLStorage, "encapsulated 3D model"),
        (pydicom.uid.EncapsulatedMTLStorage, "encapsulated 3D model"),
        (pydicom.uid.BasicStructuredDisplayStorage, "structured display"),
        (pydicom.uid.CTDefinedProcedureProtocolStorage, "procedure protocol"),
        (pydicom.uid.HangingProtocolStorage, "hanging protocol"),
        (pydicom.uid.ColorPaletteStorage, "colour palette"),
        (pydicom.uid.GenericImplantTemplateStorage, "implant template"),
        (pydicom.uid.ImplantTemplateGroupStorage, "implant template"),
        (pydicom.uid.MRSpectroscopyStorage, "spectroscopy"),
        (pydicom.uid.ParametricMapStorage, "parametric map"),
        (pydicom.uid.RTDoseStorage, "radiotherapy dose"),
        (pydicom.uid.RTStructureSetStorage, "radiotherapy structure set"),
        (pydicom.uid.RTPlanStorage, "radiotherapy plan"),
        (pydicom.uid.RTIonPlanStorage, "radiotherapy plan"),
        (pydicom.uid.RTBeamsTreatmentRecordStorage, "radiotherapy treatment record"),
        (pydicom.uid.RTIonBeamsTreatmentRecordStorage, "radiotherapy treatment record"),
        (pydicom.uid.RTPhysicianIntentStorage, "radiotherapy physician intent"),
        (pydicom.uid.RTSegmentAnnotationStorage, "radiotherapy segment annotation"),
        (pydicom.uid.RTRadiationSetStorage, "radiotherapy plan"),
        (pydicom.uid.TomotherapeuticRadiationRecordStorage, "radiotherapy treatment record"),
        (pydicom.uid.RTBeamsDeliveryInstructionStorage, "radiotherapy delivery instruction"),
    ],
)
def test_what_holds_no_picture_is_known_by_its_sop_class(sop_class, reason):
    assert no_picture_reason(str(sop_class)) == reason


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
        "1.2.840.10008.5.1.4.1.1.481.23",  # Enhanced RT Image
        pydicom.uid.OphthalmicThicknessMapStorage,
        pydicom.uid.VLPhotographicImageStorage,
    ],
)
def test_pictures_are_not_skipped(sop_class):
    assert no_picture_reason(str(sop_class)) is None


def test_a_uid_counts_by_its_parts_not_by_its_letters():
    assert no_picture_reason("1.2.840.10008.5.1.4.1.1.88") is not None
    assert no_picture_reason("1.2.840.10008.5.1.4.1.1.881") is None


def test_every_class_without_a_picture_is_known_to_the_standard():
    younger_than_pydicom = {"1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.66.8"}
    assert all(
        any(f"{uid}.".startswith(f"{ours}.") for uid in UID_dictionary) for ours in {*NO_PICTURE} - younger_than_pydicom
    )


def test_every_image_storage_class_of_the_standard_is_a_picture_but_for_microscopes_slides():
    images = {uid: row[0] for uid, row in UID_dictionary.items() if re.search(r"Image Storage( -|$)", row[0])}
    skipped = sorted(name for uid, name in images.items() if no_picture_reason(uid) is not None)
    assert len(images) > 50
    assert skipped == ["Confocal Microscopy Tiled Pyramidal Image Storage", "VL Whole Slide Microscopy Image Storage"]


# Age from dates


@pytest.mark.parametrize(
    ("birth", "study", "years"),
    [
        (date(1980, 5, 17), date(2020, 5, 16), 39),
        (date(1980, 5, 17), date(2020, 5, 17), 40),
        (date(1980, 2, 29), date(2021, 2, 28), 40),
        (date(1980, 2, 29), date(2021, 3, 1), 41),
        (date(2020, 5, 16), date(2020, 5, 17), 0),
        (date(2020, 5, 17), date(2020, 5, 17), None),
        (date(1930, 1, 2), date(2020, 1, 1), 89),
        (date(1930, 1, 2), date(2020, 1, 2), 90),
        (date(1910, 1, 2), date(2020, 1, 2), 90),
        (date(2020, 5, 18), date(2020, 5, 17), None),
        (date(1800, 1, 1), date(2020, 1, 1), None),
        (None, date(2020, 1, 1), None),
        (date(1980, 5, 17), None, None),
    ],
)
def test_an_age_is_the_whole_years_between_birth_and_study(birth, study, years):
    assert age_between(birth, study) == years


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("20190321", date(2019, 3, 21)),
        ("2019.03.21", date(2019, 3, 21)),
        ("2019-03-21", date(2019, 3, 21)),
        ("2019.0321", None),
        ("20190230", None),
        ("00000000", None),
        ("2019", None),
        ("", None),
        ("20190321-20190322", None),
        ("1980 SMITH", None),
    ],
)
def test_a_date_is_a_day_that_was_or_nothing(text, day):
    assert date_of(text) == day


# Anatomy


def meanings(sct: str) -> set[str]:
    """What pydicom's copy of PS3.16 and SNOMED calls a concept, without the kind of thing in brackets."""
    names = [codes[sct][0] for codes in _concepts_dict.concepts["SCT"].values() if sct in codes]
    return {re.sub(r" \([a-z ]+\)$", "", name).lower() for name in names}


@pytest.mark.parametrize("row", [*PLACES, *CODED_VIEWS, *CODED_LATERALITIES], ids=lambda row: row.sct)
def test_a_code_means_in_the_standard_what_we_take_it_for(row):
    assert row.meaning.lower() in meanings(row.sct)
    assert _snomed_dict.mapping["SCT"].get(row.sct, "") == row.srt
    assert not row.srt or _snomed_dict.mapping["SRT"][row.srt] == row.sct


def test_no_code_stands_twice_in_the_tables():
    for table in (PLACES, CODED_VIEWS, CODED_LATERALITIES):
        codes = [code for row in table for code in (row.sct, row.srt) if code]
        assert len(codes) == len(set(codes))


def test_a_term_has_one_region_wherever_it_stands():
    assert {(place.term, place.region) for place in PLACES if place.term} <= set(TERMS.items())
    assert not FURTHER_TERMS.keys() & {place.term for place in PLACES}
    assert not OTHER_WORDS.keys() & TERMS.keys()


def test_the_words_for_body_parts_are_bare_capitals_that_fit_a_code_string():
    assert all(re.fullmatch(r"[A-Z0-9]{3,16}", term) for term in TERMS)
    assert all(re.fullmatch(r"[A-Z0-9]+", word) for word in REGIONS)


def test_all_anatomic_regions_that_are_common_in_the_standard_have_a_region():
    common = {
        code
        for codes in _concepts_dict.concepts["SCT"].values()
        for code, (_, context_groups) in codes.items()
        if 4031 in context_groups
    }
    assert len(common) > 100
    assert {code for code in common if getattr(place_of_code("SCT", code), "region", None) is None} == set()


@pytest.mark.parametrize(
    ("scheme", "code", "term", "region"),
    [
        ("SCT", "818981001", "ABDOMEN", "abdomen"),
        ("SRT", "T-D4000", "ABDOMEN", "abdomen"),
        ("SNM3", "T-D3000", "CHEST", "chest"),
        ("99SDM", "T-D3000", "CHEST", "chest"),
        ("SRT", "T-A0100", "BRAIN", "brain"),
        ("SCT", "122494005", "CSPINE", "cervical spine"),
        ("SCT", "2095001", None, "sinus"),
        ("SCT", "29092000", "VEIN", None),
    ],
)
def test_a_code_of_snomed_names_a_place_under_each_name_of_its_scheme(scheme, code, term, region):
    place = place_of_code(scheme, code)
    assert (place.term, place.region) == (term, region)


@pytest.mark.parametrize(("scheme", "code"), [("DCM", "T-D3000"), ("", "T-D3000"), ("SRT", ""), ("SRT", "T-SMITH")])
def test_another_scheme_or_an_unknown_code_names_no_place(scheme, code):
    assert place_of_code(scheme, code) is None


@pytest.mark.parametrize(
    ("text", "term", "region"),
    [
        ("CSPINE", "CSPINE", "cervical spine"),
        (" c-spine ", "CSPINE", "cervical spine"),
        ("C_SPINE", "CSPINE", "cervical spine"),
        ("THORAX", "THORAX", "chest"),
        ("3RD VENTRICLE", "3RDVENTRICLE", "brain"),
        ("KNEE 2", "KNEE", "knee"),
        ("VEIN", "VEIN", None),
        ("Cervical spine", None, "cervical spine"),
        ("LOW_EXM", None, "lower limb"),
        ("", None, None),
        ("JOHN SMITH", None, None),
        ("CHEST JOHN SMITH", None, None),
        ("HEADER", None, None),
    ],
)
def test_a_body_part_is_kept_as_its_defined_term_or_not_at_all(text, term, region):
    assert (term_of_words(text), region_of_words(text)) == (term, region)


# Views


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("PA", "PA"),
        (" mlo ", "MLO"),
        ("LATERAL", "LAT"),
        ("ANTERO-POSTERIOR", "AP"),
        ("Left Anterior Oblique", "LAO"),
        ("LLAT", "LL"),
        ("BED 7", None),
        ("P A", None),
        ("LATERAL DECUBITUS", None),
        ("PA SMITH", None),
        ("", None),
    ],
)
def test_a_view_is_known_by_its_letters_or_in_full(text, view):
    assert view_of_words(text) == view


def test_all_words_and_codes_lead_to_terms_of_the_vocabulary():
    assert {*VIEW_WORDS.values(), *(row.term for row in CODED_VIEWS)} <= VIEWS
    assert {row.term for row in CODED_LATERALITIES} <= LATERALITIES


def test_all_views_for_mammography_are_known_but_that_of_a_specimen():
    views = {
        code
        for codes in _concepts_dict.concepts["SCT"].values()
        for code, (_, context_groups) in codes.items()
        if 4014 in context_groups
    }
    assert views - {row.sct for row in CODED_VIEWS} == {"127457009"}
