"""A DICOM header -> `Facts`: pseudonyms and allow-listed terms, nothing else."""

import re

from pydicom.dataset import Dataset

from radsearch.privacy import Pseudonymizer
from radsearch.reading.vocabulary import (
    LATERALITIES,
    MODALITIES,
    REGIONS,
    SEXES,
    VIEWS,
    age_in_years,
    manufacturer_word,
)
from radsearch.study import Facts, Labels

_FIRST_YEAR, _LAST_YEAR = 1900, 2100


def read_facts(header: Dataset, pseudonymizer: Pseudonymizer) -> Facts:
    """Take from a header what may leave it (docs/decisions/0002-privacy.md)."""
    return Facts(
        labels=Labels(modality=_term(header, "Modality", MODALITIES), region=_region(header)),
        patient=_patient(header, pseudonymizer),
        study=_pseudonym(header, "StudyInstanceUID", "study", pseudonymizer),
        series=_pseudonym(header, "SeriesInstanceUID", "series", pseudonymizer),
        view=_term(header, "ViewPosition", VIEWS),
        laterality=_term(header, "ImageLaterality", LATERALITIES) or _term(header, "Laterality", LATERALITIES),
        sex=_term(header, "PatientSex", SEXES),
        age=age_in_years(text_of(header, "PatientAge")),
        year=_year(header),
        manufacturer=manufacturer_word(text_of(header, "Manufacturer")),
        burned_in={"YES": "yes", "NO": "no"}.get(text_of(header, "BurnedInAnnotation").upper()),
    )


def text_of(header: Dataset, keyword: str) -> str:
    """The first value of an element as stripped text; empty where it is absent, empty or cannot be decoded."""
    try:
        value = header.get(keyword)
    except Exception:  # noqa: BLE001 -- pydicom decodes late: any element may hold anything
        return ""
    if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        value = value[0] if len(value) else None
    return "" if value is None else str(value).strip()


def _term(header: Dataset, keyword: str, allowed: frozenset[str]) -> str | None:
    term = text_of(header, keyword).upper()
    return term if term in allowed else None


def _region(header: Dataset) -> str | None:
    return REGIONS.get(re.sub(r"[^A-Z]", "", text_of(header, "BodyPartExamined").upper()))


def _patient(header: Dataset, pseudonymizer: Pseudonymizer) -> str | None:
    patient = text_of(header, "PatientID")
    issuer = text_of(header, "IssuerOfPatientID")
    return pseudonymizer.pseudonym("patient", issuer, patient) if patient else None


def _pseudonym(header: Dataset, keyword: str, kind: str, pseudonymizer: Pseudonymizer) -> str | None:
    uid = text_of(header, keyword)
    return pseudonymizer.pseudonym(kind, uid) if uid else None


def _year(header: Dataset) -> int | None:
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        digits = text_of(header, keyword)[:4]
        if digits.isdecimal() and _FIRST_YEAR <= int(digits) <= _LAST_YEAR:
            return int(digits)
    return None
