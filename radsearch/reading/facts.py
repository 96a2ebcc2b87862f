"""A DICOM header -> `Facts`: pseudonyms and allow-listed terms, nothing else."""

from collections.abc import Callable, Iterator
from datetime import date
from typing import TypeVar

from pydicom.dataset import Dataset

from radsearch.privacy import Pseudonymizer
from radsearch.reading.anatomy import Place, place_of_code, region_of_words, term_of_words
from radsearch.reading.elements import items_of, text_of
from radsearch.reading.vocabulary import (
    LATERALITIES,
    MODALITIES,
    SEXES,
    age_between,
    age_in_years,
    date_of,
    laterality_of_code,
    manufacturer_word,
    view_of_code,
    view_of_words,
)
from radsearch.study import Facts, Labels

Meaning = TypeVar("Meaning")

_FIRST_YEAR, _LAST_YEAR = 1900, 2100
_DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")

# The top-level elements that `read_facts` looks at; a reader need parse no others for it.
FACT_TAGS: tuple[str, ...] = (
    "SpecificCharacterSet",  # without it, the Patient ID of a hospital in Japan has other letters
    *_DATES,
    "Modality",
    "Manufacturer",
    "AnatomicRegionSequence",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "BodyPartExamined",
    "ViewPosition",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Laterality",
    "ImageLaterality",
    "BurnedInAnnotation",
    "ViewCodeSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


def read_facts(header: Dataset, pseudonymizer: Pseudonymizer) -> Facts:
    """Take from a header what may leave it (docs/decisions/0002-privacy.md); a damaged element is an absent one."""
    places = _places(header)
    return Facts(
        labels=Labels(modality=_term(header, "Modality", MODALITIES), region=_region(header, places)),
        patient=_patient(header, pseudonymizer),
        study=_pseudonym(header, "StudyInstanceUID", "study", pseudonymizer),
        series=_pseudonym(header, "SeriesInstanceUID", "series", pseudonymizer),
        body_part=_body_part(header, places),
        view=_view(header),
        laterality=_laterality(header),
        sex=_term(header, "PatientSex", SEXES),
        age=_age(header),
        year=_year(header),
        manufacturer=manufacturer_word(text_of(header, "Manufacturer")),
        burned_in={"YES": "yes", "NO": "no"}.get(text_of(header, "BurnedInAnnotation").upper()),
    )


def _anatomies(header: Dataset) -> Iterator[Dataset]:
    """What may have an Anatomic Region Sequence: the header, then the frames at large, then the first of them.

    Source: PS3.3 10.5 General Anatomy macros, C.7.6.16.2.8 Frame Anatomy macro.
    """
    yield header
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in items_of(header, keyword)[:1]:
            yield from items_of(group, "FrameAnatomySequence")


def _places(header: Dataset) -> list[Place]:
    """The parts of the body that the header's codes stand for; their meanings are free text and never looked at."""
    regions = (item for anatomy in _anatomies(header) for item in items_of(anatomy, "AnatomicRegionSequence"))
    return [place for item in regions if (place := _meaning(item, place_of_code)) is not None]


def _meaning(item: Dataset, lookup: Callable[[str, str], Meaning | None]) -> Meaning | None:
    """What a code sequence's item stands for (PS3.3 8.8): scheme and value are looked up, nothing else."""
    value = text_of(item, "CodeValue") or text_of(item, "LongCodeValue")
    return lookup(text_of(item, "CodingSchemeDesignator").upper(), value.upper())


def _region(header: Dataset, places: list[Place]) -> str | None:
    coded = (place.region for place in places if place.region is not None)
    return next(coded, None) or region_of_words(text_of(header, "BodyPartExamined"))


def _body_part(header: Dataset, places: list[Place]) -> str | None:
    coded = (place.term for place in places if place.term is not None)
    return term_of_words(text_of(header, "BodyPartExamined")) or next(coded, None)


def _view(header: Dataset) -> str | None:
    coded = (_meaning(item, view_of_code) for item in items_of(header, "ViewCodeSequence"))
    return view_of_words(text_of(header, "ViewPosition")) or next(filter(None, coded), None)


def _laterality(header: Dataset) -> str | None:
    """The side: as the image says, the series, the frames, and last the modifier of the anatomic region."""
    for keyword in ("ImageLaterality", "Laterality"):
        stated = _term(header, keyword, LATERALITIES)
        if stated is not None:
            return stated
    anatomies = list(_anatomies(header))
    framed = (_term(anatomy, "FrameLaterality", LATERALITIES) for anatomy in anatomies[1:])
    modifiers = (
        _meaning(modifier, laterality_of_code)
        for anatomy in anatomies
        for region in items_of(anatomy, "AnatomicRegionSequence")
        for modifier in items_of(region, "AnatomicRegionModifierSequence")
    )
    return next(filter(None, (*framed, *modifiers)), None)


def _term(header: Dataset, keyword: str, allowed: frozenset[str]) -> str | None:
    term = text_of(header, keyword).upper()
    return term if term in allowed else None


def _patient(header: Dataset, pseudonymizer: Pseudonymizer) -> str | None:
    patient = text_of(header, "PatientID")
    issuer = text_of(header, "IssuerOfPatientID")
    return pseudonymizer.pseudonym("patient", issuer, patient) if patient else None


def _pseudonym(header: Dataset, keyword: str, kind: str, pseudonymizer: Pseudonymizer) -> str | None:
    uid = text_of(header, keyword)
    return pseudonymizer.pseudonym(kind, uid) if uid else None


def _age(header: Dataset) -> int | None:
    """Patient's Age, else the whole years from the birth date to the study's; the dates themselves stay behind."""
    stated = age_in_years(text_of(header, "PatientAge"))
    return age_between(date_of(text_of(header, "PatientBirthDate")), _study_date(header)) if stated is None else stated


def _study_date(header: Dataset) -> date | None:
    days = (date_of(text_of(header, keyword)) for keyword in _DATES)
    return next((day for day in days if day is not None and _FIRST_YEAR <= day.year <= _LAST_YEAR), None)


def _year(header: Dataset) -> int | None:
    for keyword in _DATES:
        digits = text_of(header, keyword)[:4]
        if digits.isdecimal() and _FIRST_YEAR <= int(digits) <= _LAST_YEAR:
            return int(digits)
    return None
