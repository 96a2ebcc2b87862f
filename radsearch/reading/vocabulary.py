"""The terms that may leave a header: anything else in these fields may be free text, so it stays behind."""

import re

_OLDEST_SHOWN_AGE = 90  # HIPAA Safe Harbor: ages over 89 are one group

# PS3.3 C.7.3.1.1.1, the defined terms of Modality that stand for pictures, and XR for projection radiography at large.
MODALITIES = frozenset((
    "BI", "BMD", "CR", "CT", "DG", "DMS", "DX", "ES", "GM", "HC", "HD", "IO", "IVOCT", "IVUS", "LS",
    "MG", "MR", "NM", "OAM", "OCT", "OP", "OPM", "OPT", "OT", "PT", "PX", "RF", "RG", "SM", "TG", "US", "VA", "XA",
    "XC", "XR",
))  # fmt: skip

# PS3.16 Annex L, Body Part Examined -> our regions.
REGIONS = {
    "ABDOMEN": "abdomen", "ABDOMENPELVIS": "abdomen", "ANKLE": "ankle", "AORTA": "aorta", "ARM": "arm",
    "BLADDER": "bladder", "BRAIN": "brain", "BREAST": "breast", "CERVIX": "pelvis", "CHEST": "chest",
    "CHESTABDOMEN": "chest", "CHESTABDPELVIS": "chest", "COLON": "abdomen", "CSPINE": "cervical spine",
    "ELBOW": "elbow", "EXTREMITY": "extremity", "EYE": "eye", "FEMUR": "femur", "FINGER": "finger", "FOOT": "foot",
    "FOREARM": "forearm", "HAND": "hand", "HEAD": "head", "HEADNECK": "head", "HEART": "heart", "HIP": "hip",
    "HUMERUS": "humerus", "JAW": "jaw", "KIDNEY": "kidney", "KNEE": "knee", "LEG": "leg", "LIVER": "liver",
    "LSPINE": "lumbar spine", "LUNG": "lung", "NECK": "neck", "ORBIT": "eye", "PANCREAS": "pancreas",
    "PELVIS": "pelvis", "PROSTATE": "prostate", "SHOULDER": "shoulder", "SKULL": "skull", "SPINE": "spine",
    "SPLEEN": "spleen", "SSPINE": "sacral spine", "TESTIS": "testis", "THORAX": "chest", "THYROID": "thyroid",
    "TIBIA": "leg", "TSPINE": "thoracic spine", "UTERUS": "uterus", "WHOLEBODY": "whole body", "WRIST": "wrist",
}  # fmt: skip

VIEWS = frozenset((
    "AP", "CC", "LAO", "LAT", "LL", "LLD", "LLO", "LM", "LMO", "ML", "MLO", "PA", "RAO", "RL", "RLD", "RLO", "SIO",
    "TAN", "XCC", "XCCL", "XCCM",
))  # fmt: skip
LATERALITIES = frozenset(["L", "R", "B", "U"])
SEXES = frozenset(["M", "F", "O"])

# Manufacturer (0008,0070) is free text: the first of these words found in it is kept.
MANUFACTURERS = (
    "Agfa", "Aloka", "Bruker", "Canon", "Carestream", "CMS", "Elekta", "Esaote", "Fuji", "GE", "Hitachi", "Hologic",
    "Kodak", "Konica", "Lodox", "Mindray", "Neusoft", "Philips", "Samsung", "Shimadzu", "Siemens", "Sonosite",
    "Toshiba", "United Imaging", "Varian",
)  # fmt: skip

# SOP classes that hold no picture to search for, although some of them carry pixel data (PS3.4 B.5).
NO_PICTURE = {
    "1.2.840.10008.1.3.10": "DICOMDIR",
    "1.2.840.10008.5.1.4.1.1.11": "presentation state",
    "1.2.840.10008.5.1.4.1.1.9": "waveform",
    "1.2.840.10008.5.1.4.1.1.66": "raw data, registration or segmentation",
    "1.2.840.10008.5.1.4.1.1.67": "real world value mapping",
    "1.2.840.10008.5.1.4.1.1.77.1.6": "whole-slide microscopy",
    "1.2.840.10008.5.1.4.1.1.88": "structured report or key object selection",
    "1.2.840.10008.5.1.4.1.1.104": "encapsulated document",
    "1.2.840.10008.5.1.4.1.1.30": "parametric map",
    "1.2.840.10008.5.1.4.1.1.481.2": "radiotherapy dose",
    "1.2.840.10008.5.1.4.1.1.481.3": "radiotherapy structure set",
    "1.2.840.10008.5.1.4.1.1.481.5": "radiotherapy plan",
    "1.2.840.10008.5.1.4.1.1.481.8": "radiotherapy plan",
    "1.2.840.10008.5.1.4.1.1.481.10": "radiotherapy plan",
    "1.2.840.10008.5.1.4.1.1.481.4": "radiotherapy treatment record",
    "1.2.840.10008.5.1.4.1.1.481.6": "radiotherapy treatment record",
    "1.2.840.10008.5.1.4.1.1.481.7": "radiotherapy treatment record",
    "1.2.840.10008.5.1.4.1.1.481.9": "radiotherapy treatment record",
    "1.2.840.10008.5.1.4.1.1.4.2": "spectroscopy",
    "1.2.840.10008.5.1.4.1.1.68": "surface scan",
}


def no_picture_reason(sop_class_uid: str) -> str | None:
    """What the SOP class holds instead of a picture, or None; sub-classes count with the class above them."""
    parts = sop_class_uid.split(".")
    for length in range(len(parts), 0, -1):
        reason = NO_PICTURE.get(".".join(parts[:length]))
        if reason is not None:
            return reason
    return None


def manufacturer_word(text: str) -> str | None:
    """The known manufacturer named in a free text, or None."""
    words = text.upper().replace(",", " ").split()
    for name in MANUFACTURERS:
        known = name.upper().split()
        starts = [word.startswith(known[0]) if len(known[0]) > len("CMS") else word == known[0] for word in words]
        if any(starts) and all(part in " ".join(words) for part in known):
            return name
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
