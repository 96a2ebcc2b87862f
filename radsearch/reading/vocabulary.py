"""The terms that may leave a header: anything else in these fields may be free text, so it stays behind."""

import re
from datetime import date
from typing import NamedTuple

from radsearch.reading.anatomy import SNOMED_SCHEMES

_OLDEST_SHOWN_AGE = 90  # HIPAA Safe Harbor: ages over 89 are one group
_OLDEST_POSSIBLE_AGE = 130

# PS3.3 C.7.3.1.1.1, the defined terms of Modality that stand for pictures, and XR for projection radiography at large.
MODALITIES = frozenset((
    "BI", "BMD", "CR", "CT", "DG", "DMS", "DX", "ES", "GM", "HC", "HD", "IO", "IVOCT", "IVUS", "LS",
    "MG", "MR", "NM", "OAM", "OCT", "OP", "OPM", "OPT", "OT", "PT", "PX", "RF", "RG", "SM", "TG", "US", "VA", "XA",
    "XC", "XR",
))  # fmt: skip

# View Position: PS3.3 C.8.1.1 names those of projection radiography, PS3.16 CID 4014 those of mammography. OBL and AX
# stand for views of CID 4010 that have no letters there.
VIEWS = frozenset((
    "AP", "AX", "CC", "FB", "ISO", "LAO", "LAT", "LL", "LLD", "LLO", "LM", "LMO", "LPO", "ML", "MLO", "OBL", "PA",
    "RAO", "RL", "RLD", "RLO", "RPO", "SIO", "TAN", "XCC", "XCCL", "XCCM",
))  # fmt: skip

# What is written into View Position in full, in bare capitals.
VIEW_WORDS = {
    "ANTEROPOSTERIOR": "AP", "AXIAL": "AX", "CAUDOCRANIAL": "FB", "CRANIOCAUDAL": "CC", "LATERAL": "LAT",
    "LATEROMEDIAL": "LM", "LATEROMEDIALOBLIQUE": "LMO", "LEFTANTERIOROBLIQUE": "LAO", "LEFTLATERAL": "LL",
    "LEFTLATERALDECUBITUS": "LLD", "LEFTLATERALOBLIQUE": "LLO", "LEFTPOSTERIOROBLIQUE": "LPO", "LLAT": "LL",
    "MEDIOLATERAL": "ML", "MEDIOLATERALOBLIQUE": "MLO", "OBLIQUE": "OBL", "POSTEROANTERIOR": "PA",
    "RIGHTANTERIOROBLIQUE": "RAO", "RIGHTLATERAL": "RL", "RIGHTLATERALDECUBITUS": "RLD", "RIGHTLATERALOBLIQUE": "RLO",
    "RIGHTPOSTERIOROBLIQUE": "RPO", "RLAT": "RL", "TANGENTIAL": "TAN",
}  # fmt: skip


class CodedTerm(NamedTuple):
    """A SNOMED CT concept, the SNOMED RT code for the same, what the standard calls it, and our term."""

    sct: str
    srt: str
    meaning: str
    term: str


# PS3.16 CID 4014 View for Mammography, CID 4010 DX View, CID 26 Nuclear Medicine Projections.
CODED_VIEWS = (
    CodedTerm("399162004", "R-10242", "cranio-caudal", "CC"),
    CodedTerm("399260004", "R-10224", "medial-lateral", "ML"),
    CodedTerm("399368009", "R-10226", "medio-lateral oblique", "MLO"),
    CodedTerm("399352003", "R-10228", "latero-medial", "LM"),
    CodedTerm("399099002", "R-10230", "latero-medial oblique", "LMO"),
    CodedTerm("399196006", "R-10244", "caudo-cranial", "FB"),
    CodedTerm("399188001", "R-102D0", "superolateral to inferomedial oblique", "SIO"),
    CodedTerm("441555000", "R-40AAA", "inferomedial to superolateral oblique", "ISO"),
    CodedTerm("399265009", "R-102CF", "Exaggerated cranio-caudal projection", "XCC"),
    CodedTerm("399192008", "R-1024A", "cranio-caudal exaggerated laterally", "XCCL"),
    CodedTerm("399101009", "R-1024B", "cranio-caudal exaggerated medially", "XCCM"),
    CodedTerm("399348003", "R-10206", "antero-posterior", "AP"),
    CodedTerm("272479007", "R-40888", "postero-anterior", "PA"),
    CodedTerm("399067008", "R-102CD", "lateral", "LAT"),
    CodedTerm("399173006", "R-10236", "left lateral", "LL"),
    CodedTerm("399198007", "R-10232", "right lateral", "RL"),
    CodedTerm("399135007", "R-10220", "left anterior oblique", "LAO"),
    CodedTerm("399356000", "R-40985", "right anterior oblique", "RAO"),
    CodedTerm("399006002", "R-10212", "left posterior oblique", "LPO"),
    CodedTerm("399038007", "R-10210", "right posterior oblique", "RPO"),
    CodedTerm("399182000", "R-102C1", "oblique", "OBL"),
    CodedTerm("399184004", "R-10238", "left oblique", "OBL"),
    CodedTerm("399236003", "R-10234", "right oblique", "OBL"),
    CodedTerm("399312000", "R-10208", "antero-posterior oblique", "OBL"),
    CodedTerm("399059000", "R-10216", "postero-anterior oblique", "OBL"),
    CodedTerm("260426006", "R-40782", "medial oblique", "OBL"),
    CodedTerm("260427002", "R-40783", "lateral oblique", "OBL"),
    CodedTerm("399061009", "R-10241", "axial", "AX"),
    CodedTerm("399110001", "R-102C2", "tangential", "TAN"),
    CodedTerm("399074003", "G-5207", "Left anterior oblique", "LAO"),
    CodedTerm("399108003", "G-5206", "Right anterior oblique", "RAO"),
    CodedTerm("399136008", "G-5209", "Left posterior oblique", "LPO"),
    CodedTerm("399075002", "G-5208", "Right posterior oblique", "RPO"),
    CodedTerm("399118008", "G-5223", "Left lateral projection", "LL"),
    CodedTerm("399297009", "G-5222", "Right lateral projection", "RL"),
    CodedTerm("399268006", "G-5224", "Medio-lateral oblique", "MLO"),
    CodedTerm("399159002", "G-5225", "Latero-medial oblique", "LMO"),
)

# PS3.16 CID 244 Laterality, whose unilateral says nothing of the side.
CODED_LATERALITIES = (
    CodedTerm("7771000", "G-A101", "Left", "L"),
    CodedTerm("24028007", "G-A100", "Right", "R"),
    CodedTerm("51440002", "G-A102", "Bilateral", "B"),
)

_VIEWS_BY_CODE = {code: row.term for row in CODED_VIEWS for code in (row.sct, row.srt)}
_LATERALITIES_BY_CODE = {code: row.term for row in CODED_LATERALITIES for code in (row.sct, row.srt)}
LATERALITIES = frozenset(["L", "R", "B", "U"])
SEXES = frozenset(["M", "F", "O"])

# Manufacturer (0008,0070) is free text: the first of these words found in it is kept, so that a company comes before
# those that it took over. No surname enters this list without need: it could be the radiologist's.
MANUFACTURERS = (
    "Agfa", "Aloka", "Bruker", "Canon", "Carestream", "CMS", "Elekta", "Esaote", "Fuji", "GE", "Hitachi", "Hologic",
    "Kodak", "Konica", "Lodox", "Mindray", "Neusoft", "Philips", "Samsung", "Shimadzu", "Siemens", "Sonosite",
    "Toshiba", "United Imaging", "Varian",
    "Accuray", "Alpinion", "Analogic", "BK Medical", "Brainlab", "Butterfly Network", "Carl Zeiss", "Chison",
    "CurveBeam", "Dentsply", "Digirad", "DRGEM", "EOS Imaging", "Fonar", "Gendex", "Heidelberg Engineering",
    "Hyperfine", "Imaging Dynamics", "IMS Giotto", "Lorad", "Metaltronica", "Nidek", "Optovue", "Planmeca",
    "Planmed", "Rayence", "Sectra", "Sedecal", "Sirona", "SonoScape", "Spectrum Dynamics", "SuperSonic", "Swissray",
    "Terason", "Topcon", "Ultrasonix", "Vatech", "Vieworks", "Zonare",
)  # fmt: skip

# Names under which some of them also sign.
_ALSO_CALLED = {
    "G.E.": "GE", "General Electric": "GE", "UIH": "United Imaging", "Medison": "Samsung", "Acuson": "Siemens",
    "Instrumentarium Imaging": "GE", "Marconi Medical": "Philips", "Picker International": "Philips", "ADAC": "Philips",
}  # fmt: skip

_STORAGE = "1.2.840.10008.5.1.4.1.1"
_RT_PLAN, _RT_RECORD, _RT_DELIVERY = (
    "radiotherapy plan",
    "radiotherapy treatment record",
    "radiotherapy delivery instruction",
)

# SOP classes that hold no picture to search for, although some of them carry pixel data (PS3.4 B.5 and GG.3). Left out
# since they are pictures: RT Image (481.1, 481.23, 481.24), the thickness and topography maps of the eye (81, 82), and
# video, which is a matter of the transfer syntax.
NO_PICTURE = {
    "1.2.840.10008.1.3.10": "DICOMDIR",
    f"{_STORAGE}.4.2": "spectroscopy",
    f"{_STORAGE}.8": "overlay",
    f"{_STORAGE}.9": "waveform",
    f"{_STORAGE}.10": "look-up table",
    f"{_STORAGE}.11": "presentation state",
    f"{_STORAGE}.30": "parametric map",
    f"{_STORAGE}.66": "raw data",
    f"{_STORAGE}.66.1": "spatial registration",
    f"{_STORAGE}.66.2": "spatial fiducials",
    f"{_STORAGE}.66.3": "spatial registration",
    f"{_STORAGE}.66.4": "segmentation",
    f"{_STORAGE}.66.5": "surface segmentation",
    f"{_STORAGE}.66.6": "tractography",
    f"{_STORAGE}.66.7": "segmentation",
    f"{_STORAGE}.66.8": "height map",
    f"{_STORAGE}.67": "real world value mapping",
    f"{_STORAGE}.68": "surface scan",
    f"{_STORAGE}.77.1.5.3": "stereometric relationship",
    f"{_STORAGE}.77.1.5.8": "ophthalmic measurement",
    f"{_STORAGE}.77.1.6": "whole-slide microscopy",
    f"{_STORAGE}.77.1.9": "whole-slide microscopy",
    f"{_STORAGE}.78": "ophthalmic measurement",
    f"{_STORAGE}.79": "ophthalmic measurement",
    f"{_STORAGE}.80": "ophthalmic measurement",
    f"{_STORAGE}.88": "structured report",
    f"{_STORAGE}.88.59": "key object selection",
    f"{_STORAGE}.90": "content assessment",
    f"{_STORAGE}.91": "microscopy annotations",
    f"{_STORAGE}.104": "encapsulated document",
    f"{_STORAGE}.104.3": "encapsulated 3D model",
    f"{_STORAGE}.104.4": "encapsulated 3D model",
    f"{_STORAGE}.104.5": "encapsulated 3D model",
    f"{_STORAGE}.129": "waveform",
    f"{_STORAGE}.131": "structured display",
    f"{_STORAGE}.200": "procedure protocol",
    f"{_STORAGE}.201": "inventory",
    f"{_STORAGE}.481.2": "radiotherapy dose",
    f"{_STORAGE}.481.3": "radiotherapy structure set",
    f"{_STORAGE}.481.4": _RT_RECORD,
    f"{_STORAGE}.481.5": _RT_PLAN,
    f"{_STORAGE}.481.6": _RT_RECORD,
    f"{_STORAGE}.481.7": _RT_RECORD,
    f"{_STORAGE}.481.8": _RT_PLAN,
    f"{_STORAGE}.481.9": _RT_RECORD,
    f"{_STORAGE}.481.10": "radiotherapy physician intent",
    f"{_STORAGE}.481.11": "radiotherapy segment annotation",
    f"{_STORAGE}.481.12": _RT_PLAN,
    f"{_STORAGE}.481.13": _RT_PLAN,
    f"{_STORAGE}.481.14": _RT_PLAN,
    f"{_STORAGE}.481.15": _RT_PLAN,
    f"{_STORAGE}.481.16": _RT_RECORD,
    f"{_STORAGE}.481.17": _RT_RECORD,
    f"{_STORAGE}.481.18": _RT_RECORD,
    f"{_STORAGE}.481.19": _RT_RECORD,
    f"{_STORAGE}.481.20": _RT_RECORD,
    f"{_STORAGE}.481.21": _RT_DELIVERY,
    f"{_STORAGE}.481.22": _RT_DELIVERY,
    f"{_STORAGE}.481.25": _RT_DELIVERY,
    "1.2.840.10008.5.1.4.34": _RT_DELIVERY,
    "1.2.840.10008.5.1.4.38": "hanging protocol",
    "1.2.840.10008.5.1.4.39": "colour palette",
    "1.2.840.10008.5.1.4.43": "implant template",
    "1.2.840.10008.5.1.4.44": "implant template",
    "1.2.840.10008.5.1.4.45": "implant template",
}


def no_picture_reason(sop_class_uid: str) -> str | None:
    """What the SOP class holds instead of a picture, or None; sub-classes count with the class above them."""
    parts = sop_class_uid.split(".")
    for length in range(len(parts), 0, -1):
        reason = NO_PICTURE.get(".".join(parts[:length]))
        if reason is not None:
            return reason
    return None


def view_of_words(text: str) -> str | None:
    """The view that View Position (0018,5101) names, by its letters or in full, or None.

    Source: PS3.3 C.8.1.1 and C.8.7.5.
    """
    term = text.strip().upper()
    return term if term in VIEWS else VIEW_WORDS.get(re.sub(r"[^A-Z]", "", term))


def view_of_code(scheme: str, code: str) -> str | None:
    """The view that a code stands for, or None (PS3.16 CID 4010 DX View, CID 4014 View for Mammography, CID 26)."""
    return _VIEWS_BY_CODE.get(code) if scheme in SNOMED_SCHEMES else None


def laterality_of_code(scheme: str, code: str) -> str | None:
    """L, R or B for a code of PS3.16 CID 244 Laterality, or None."""
    return _LATERALITIES_BY_CODE.get(code) if scheme in SNOMED_SCHEMES else None


def manufacturer_word(text: str) -> str | None:
    """The known manufacturer named in a free text, or None."""
    words = text.upper().replace(",", " ").replace("_", " ").split()
    for name in (*MANUFACTURERS, *_ALSO_CALLED):
        known = name.upper().split()
        starts = [word.startswith(known[0]) if len(known[0]) > len("CMS") else word == known[0] for word in words]
        if any(starts) and all(part in " ".join(words) for part in known):
            return _ALSO_CALLED.get(name, name)
    return None


def age_in_years(text: str) -> int | None:
    """Years of an Age String (`045Y`, `010M`) or of a plain number; 90 and more become 90.

    Source: PS3.5 6.2, value representation AS.
    """
    found = re.fullmatch(r"(\d{1,3})(?:\.\d+)?([DWMY]?)", text.strip().upper())
    if found is None:
        return None
    number, unit = int(found[1]), found[2]
    per_year = {"D": 365, "W": 52, "M": 12}.get(unit, 1)
    return min(number // per_year, _OLDEST_SHOWN_AGE)


def age_between(birth: date | None, study: date | None) -> int | None:
    """Whole years from birth to study; 90 and more become 90.

    None where a date is missing, the birth is not the earlier one (the same day stands for nobody knows), or more years
    lie between them than anybody lives.
    """
    if birth is None or study is None or birth >= study:
        return None
    before_birthday = (study.month, study.day) < (birth.month, birth.day)
    years = study.year - birth.year - before_birthday
    return min(years, _OLDEST_SHOWN_AGE) if years <= _OLDEST_POSSIBLE_AGE else None


def date_of(text: str) -> date | None:
    """The day that a Date (`20190321`, or `2019.03.21` of old files) names, or None.

    Source: PS3.5 6.2, value representation DA.
    """
    found = re.fullmatch(r"([0-9]{4})([.-]?)([0-9]{2})\2([0-9]{2})", text.strip())
    if found is None:
        return None
    try:
        return date(int(found[1]), int(found[3]), int(found[4]))
    except ValueError:
        return None
