"""Texts that say of a picture that it shows a finding, for models that read text."""

_KINDS = {
    "CT": "CT scan",
    "MR": "MRI",
    "US": "ultrasound image",
    "XR": "X-ray",
    "CR": "X-ray",
    "DX": "X-ray",
    "RG": "X-ray",
    "MG": "mammogram",
    "NM": "nuclear medicine scan",
    "PT": "PET scan",
    "XA": "angiogram",
}
_TEMPLATES = ("a {picture} showing {finding}", "{finding} on a {picture}", "{picture}: {finding}", "{finding}")


def prompts_for(finding: str, *, modality: str | None = None, region: str | None = None) -> list[str]:
    """The texts, such as "a chest X-ray showing pleural effusion".

    Args:
        finding: in words, as a data set or a radiologist names it.
        modality: DICOM code, or XR; "radiology image" without.
        region: such as chest.
    """
    kind = _KINDS.get((modality or "").upper(), "radiology image")
    picture = f"{region.lower().replace('_', ' ')} {kind}" if region else kind
    return [template.format(picture=picture, finding=finding.strip()) for template in _TEMPLATES]
