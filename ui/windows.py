"""Windows by their names, as viewers have them. Source: the presets of OHIF and 3D Slicer, in Hounsfield units."""

CT_WINDOWS = {
    "soft tissue": (40.0, 400.0),
    "lung": (-600.0, 1500.0),
    "mediastinum": (50.0, 350.0),
    "bone": (480.0, 2500.0),
    "brain": (40.0, 80.0),
    "liver": (90.0, 150.0),
}
_MOST = 1e12
Window = tuple[float, float]
"""(centre, width) in modality units."""


def text_of(window: Window) -> str:
    """As an address has it."""
    return ",".join(f"{value:.10g}" for value in window)


def window_of(text: str) -> Window | None:
    """What an address means; None where it is no window."""
    try:
        centre, width = (float(value) for value in text.split(","))
    except ValueError:
        return None
    return (centre, width) if abs(centre) <= _MOST and 0 < width <= _MOST else None  # also no NaN
