"""What a DICOM header says of region, side, view and age, coded or in words; damage in it stops nobody."""

import pytest
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from radsearch.privacy import Pseudonymizer
from radsearch.reading.facts import FACT_TAGS, read_facts


@pytest.fixture
def facts_of(pseudonymizer: Pseudonymizer):
    """Reads the facts of a header with the given elements, or of a whole one."""

    def read(header: Dataset | None = None, **elements):
        return read_facts(header if header is not None else dataset(**elements), pseudonymizer)

    return read


def dataset(**elements) -> Dataset:
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def coded(scheme: str, value: str, **elements) -> Dataset:
    """A code whose meaning is a patient's name: it must never be looked at."""
    return dataset(CodingSchemeDesignator=scheme, CodeValue=value, CodeMeaning="SMITH^JOHN", **elements)


BRAIN, CHEST, KNEE = coded("SCT", "12738006"), coded("SRT", "T-D3000"), coded("SCT", "72696002")


def framed(**elements) -> list[Dataset]:
    """A functional group with one Frame Anatomy Sequence."""
    return [dataset(FrameAnatomySequence=[dataset(**elements)])]


# Region and body part


def test_a_coded_region_goes_before_body_part_examined_which_is_kept_as_it_was_said(facts_of):
    facts = facts_of(AnatomicRegionSequence=[BRAIN], BodyPartExamined="head")
    assert (facts.labels.region, facts.body_part) == ("brain", "HEAD")


@pytest.mark.parametrize(
    ("code", "region", "term"),
    [
        (coded("SCT", "122494005"), "cervical spine", "CSPINE"),
        (coded("SRT", "T-11501"), "cervical spine", "CSPINE"),
        (coded("SNM3", "T-04000"), "breast", "BREAST"),
        (coded("99SDM", "T-D4000"), "abdomen", "ABDOMEN"),
        (coded("srt", "t-d4000"), "abdomen", "ABDOMEN"),
        (coded("SCT", "2095001"), "sinus", None),
        (coded("SCT", "51114001"), None, "ARTERY"),
        (coded("DCM", "T-D4000"), None, None),
        (coded("SRT", "SMITH"), None, None),
        (dataset(CodeMeaning="Chest"), None, None),
        (dataset(CodingSchemeDesignator="SCT", LongCodeValue="12738006"), "brain", "BRAIN"),
    ],
)
def test_a_code_alone_gives_region_and_term(facts_of, code, region, term):
    facts = facts_of(AnatomicRegionSequence=[code])
    assert (facts.labels.region, facts.body_part) == (region, term)
    assert "SMITH" not in repr(facts)


def test_an_unknown_code_leaves_the_word_to_body_part_examined(facts_of):
    facts = facts_of(AnatomicRegionSequence=[coded("99ACME", "1")], BodyPartExamined="C-SPINE")
    assert (facts.labels.region, facts.body_part) == ("cervical spine", "CSPINE")


def test_of_several_codes_the_first_known_one_counts(facts_of):
    assert facts_of(AnatomicRegionSequence=[coded("99ACME", "1"), KNEE, BRAIN]).labels.region == "knee"


def test_the_regions_of_the_frames_are_read_first_the_shared_one(facts_of):
    shared, per_frame = framed(AnatomicRegionSequence=[BRAIN]), framed(AnatomicRegionSequence=[KNEE])
    other = framed(AnatomicRegionSequence=[CHEST])
    both = {"SharedFunctionalGroupsSequence": shared, "PerFrameFunctionalGroupsSequence": [*per_frame, *other]}
    assert facts_of(**both).labels.region == "brain"
    assert facts_of(**both, AnatomicRegionSequence=[CHEST]).labels.region == "chest"
    both["SharedFunctionalGroupsSequence"] = [Dataset()]
    assert (facts_of(**both).labels.region, facts_of(**both).body_part) == ("knee", "KNEE")


@pytest.mark.parametrize("text", ["JOHN SMITH", "CHEST SMITH", "KNEE OF SMITH", "19610827", ""])
def test_free_text_in_body_part_examined_stays_behind(facts_of, text):
    facts = facts_of(BodyPartExamined=text)
    assert (facts.labels.region, facts.body_part) == (None, None)


def test_a_known_word_that_is_no_defined_term_gives_a_region_only(facts_of):
    facts = facts_of(BodyPartExamined="LOW_EXM")
    assert (facts.labels.region, facts.body_part) == ("lower limb", None)


# Side


@pytest.mark.parametrize(("sct", "srt", "side"), [("7771000", "G-A101", "L"), ("24028007", "G-A100", "R")])
def test_the_modifier_of_the_region_names_the_side(facts_of, sct, srt, side):
    for code in (coded("SCT", sct), coded("SRT", srt)):
        knee = coded("SCT", "72696002", AnatomicRegionModifierSequence=[code])
        assert facts_of(AnatomicRegionSequence=[knee]).laterality == side
        assert facts_of(PerFrameFunctionalGroupsSequence=framed(AnatomicRegionSequence=[knee])).laterality == side


def test_both_sides_are_b_and_a_modifier_that_is_no_side_is_none(facts_of):
    modifiers = {"B": coded("SRT", "G-A102"), None: coded("SCT", "66459002")}
    for side, code in modifiers.items():
        breast = coded("SCT", "76752008", AnatomicRegionModifierSequence=[code])
        assert facts_of(AnatomicRegionSequence=[breast]).laterality == side


def test_the_side_is_that_of_image_then_series_then_frames_then_modifier(facts_of):
    left = coded("SCT", "72696002", AnatomicRegionModifierSequence=[coded("SCT", "7771000")])
    elements = {
        "AnatomicRegionSequence": [left],
        "PerFrameFunctionalGroupsSequence": framed(FrameLaterality="R"),
        "SharedFunctionalGroupsSequence": framed(FrameLaterality="B"),
        "Laterality": "R",
        "ImageLaterality": "U",
    }
    for keyword, side in [
        ("ImageLaterality", "U"),
        ("Laterality", "R"),
        ("SharedFunctionalGroupsSequence", "B"),
        ("PerFrameFunctionalGroupsSequence", "R"),
        ("AnatomicRegionSequence", "L"),
    ]:
        assert facts_of(**elements).laterality == side
        del elements[keyword]
    assert facts_of(**elements).laterality is None


# View


@pytest.mark.parametrize(
    ("scheme", "value", "view"),
    [
        ("SRT", "R-10242", "CC"),
        ("SNM3", "R-10226", "MLO"),
        ("SCT", "399368009", "MLO"),
        ("SCT", "399348003", "AP"),
        ("SCT", "272479007", "PA"),
        ("SRT", "R-10236", "LL"),
        ("SCT", "399135007", "LAO"),
        ("SCT", "399312000", "OBL"),
        ("SCT", "127457009", None),
        ("99ACME", "R-10242", None),
    ],
)
def test_a_view_code_gives_the_letters_of_the_view(facts_of, scheme, value, view):
    assert facts_of(ViewCodeSequence=[coded(scheme, value)]).view == view


def test_view_position_goes_before_the_code_unless_it_is_free_text(facts_of):
    code = [coded("SRT", "R-10242")]
    assert facts_of(ViewPosition="MLO", ViewCodeSequence=code).view == "MLO"
    assert facts_of(ViewPosition="LATERAL", ViewCodeSequence=code).view == "LAT"
    assert facts_of(ViewPosition="BED 7", ViewCodeSequence=code).view == "CC"


# Age


@pytest.mark.parametrize(
    ("elements", "age"),
    [
        ({"PatientAge": "047Y", "PatientBirthDate": "19800517", "StudyDate": "20200517"}, 47),
        ({"PatientBirthDate": "19800517", "StudyDate": "20200516"}, 39),
        ({"PatientAge": "", "PatientBirthDate": "19800517", "StudyDate": "20200517"}, 40),
        ({"PatientAge": "old", "PatientBirthDate": "19800517", "StudyDate": "20200517"}, 40),
        ({"PatientBirthDate": "19200101", "StudyDate": "20200517"}, 90),
        ({"PatientBirthDate": "20200518", "StudyDate": "20200517"}, None),
        ({"PatientBirthDate": "19800517"}, None),
        ({"PatientBirthDate": "1980", "StudyDate": "20200517"}, None),
        ({"PatientBirthDate": "19800517", "StudyDate": "", "AcquisitionDate": "20200517"}, 40),
        ({"PatientBirthDate": "18000517", "StudyDate": "18200517"}, None),
    ],
)
def test_a_missing_age_is_worked_out_from_the_birth_date_which_stays_behind(facts_of, elements, age):
    facts = facts_of(**elements)
    assert facts.age == age
    assert "0517" not in repr(facts)


# Damage

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of the damage made here


def full() -> Dataset:
    """A header in which every fact is said, the coded ones by their codes."""
    knee = coded("SCT", "72696002", AnatomicRegionModifierSequence=[coded("SCT", "7771000")])
    return dataset(
        SpecificCharacterSet="ISO_IR 192",
        Modality="DX",
        AnatomicRegionSequence=[knee],
        SharedFunctionalGroupsSequence=framed(AnatomicRegionSequence=[BRAIN]),
        PerFrameFunctionalGroupsSequence=framed(AnatomicRegionSequence=[CHEST]),
        ViewCodeSequence=[coded("SCT", "399348003")],
        PatientID="MRN-7",
        IssuerOfPatientID="Klinik Köln",
        PatientName="SMITH^JOHN",
        PatientSex="F",
        PatientBirthDate="19800517",
        StudyDate="20200517",
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.4",
        Manufacturer="Philips Medical Systems",
        BurnedInAnnotation="NO",
        Rows=4,
    )


def test_the_facts_are_the_same_from_the_elements_of_fact_tags_alone(facts_of):
    header = full()
    reduced = Dataset()
    for keyword in FACT_TAGS:
        if keyword in header:
            reduced[keyword] = header[keyword]
    assert "Rows" not in reduced
    assert facts_of(reduced) == facts_of(header)
    assert facts_of(header).labels.region == "knee"


@pytest.mark.parametrize("keyword", FACT_TAGS)
def test_each_of_the_fact_tags_is_looked_at(facts_of, keyword):
    looked_at = []

    class Watched(Dataset):
        def __contains__(self, tag):
            looked_at.append(keyword_for_tag(tag))
            return super().__contains__(tag)

    facts_of(Watched())
    assert keyword in {*looked_at, "SpecificCharacterSet"}
    assert set(looked_at) <= set(FACT_TAGS) | {"FrameLaterality"}


WRONG = [
    ("LO", "SMITH"),
    ("LO", ["SMITH", "JOHN"]),
    ("LO", ""),
    ("US", 7),
    ("FD", float("nan")),
    ("SQ", []),
    ("SQ", [Dataset()]),
    ("SQ", [dataset(CodeValue="SMITH", CodingSchemeDesignator="SMITH")]),
    ("PN", "SMITH^JOHN"),
]
TAGS = [keyword for keyword in FACT_TAGS if keyword != "SpecificCharacterSet"]


def test_a_damaged_element_is_an_absent_one(facts_of):
    header = full()
    for keyword in ("AnatomicRegionSequence", "PatientBirthDate"):
        header[keyword] = RawDataElement(Tag(keyword), "SQ", 3, b"\xff\x00\x01", 0, False, True)
    facts = facts_of(header)
    assert (facts.labels.region, facts.age, facts.labels.modality) == ("brain", None, "DX")


@pytest.mark.parametrize("keyword", TAGS)
@pytest.mark.parametrize(("representation", "value"), WRONG)
def test_an_element_of_the_wrong_kind_stops_nobody_and_its_words_stay_behind(facts_of, keyword, representation, value):
    header = full()
    header.add_new(keyword, representation, value)
    assert "SMITH" not in repr(facts_of(header))


@pytest.mark.parametrize("keyword", TAGS)
@pytest.mark.parametrize("representation", ["SQ", "FL", "IS", "DS", "AT", "CS", "UN", "ZZ"])
@pytest.mark.parametrize("value", [b"\xff", b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x08", b"SMITH" * 7])
def test_bytes_of_any_kind_stop_nobody_and_stay_behind(facts_of, keyword, representation, value):
    header = full()
    tag = Tag(keyword)
    header._dict[tag] = RawDataElement(tag, representation, len(value), value, 0, False, True)
    assert "SMITH" not in repr(facts_of(header))


def nested(header: Dataset, path: list[str]) -> Dataset:
    """The first item of the sequences on the way to an element."""
    for keyword in path:
        header = header[keyword].value[0]
    return header


@pytest.mark.parametrize(
    ("path", "keyword"),
    [
        (["AnatomicRegionSequence"], "CodeValue"),
        (["AnatomicRegionSequence"], "CodingSchemeDesignator"),
        (["AnatomicRegionSequence"], "AnatomicRegionModifierSequence"),
        (["AnatomicRegionSequence", "AnatomicRegionModifierSequence"], "CodeValue"),
        (["SharedFunctionalGroupsSequence"], "FrameAnatomySequence"),
        (["SharedFunctionalGroupsSequence", "FrameAnatomySequence"], "AnatomicRegionSequence"),
        (["SharedFunctionalGroupsSequence", "FrameAnatomySequence"], "FrameLaterality"),
        (["PerFrameFunctionalGroupsSequence"], "FrameAnatomySequence"),
        (["ViewCodeSequence"], "CodeValue"),
    ],
)
@pytest.mark.parametrize(("representation", "value"), WRONG)
def test_damage_within_a_sequence_costs_no_other_fact(facts_of, path, keyword, representation, value):
    header = full()
    nested(header, path).add_new(keyword, representation, value)
    facts = facts_of(header)
    assert "SMITH" not in repr(facts)
    assert (facts.labels.modality, facts.age, facts.sex) == ("DX", 40, "F")
