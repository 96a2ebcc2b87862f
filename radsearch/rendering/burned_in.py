"""What is done about text that may be burned into a picture: shown, cut off, blanked or refused (docs/rendering.md)."""

from dataclasses import dataclass

from radsearch.errors import UnreadableImageError, text_may_be_burned_in
from radsearch.rendering.text import blank, find_text
from radsearch.settings import Settings
from radsearch.study import Picture, StudyImage, TextRisk


@dataclass(frozen=True, slots=True)
class TextPolicy:
    """What the settings ask for.

    burned_in: `refuse` every file at risk; `crop`: those that are neither cut to what has no text nor searched for it;
        `allow`: none. blank: whether text is looked for in every picture, and blanked.
    """

    burned_in: str = "crop"
    blank: bool = False

    def refusal(self, risk: TextRisk | None) -> str | None:
        """Why a file at this risk is refused; None where it is not."""
        if risk is None or self.burned_in == "allow":
            return None
        helped = self.burned_in == "crop" and (risk.cropped or self.blank)
        return None if helped else text_may_be_burned_in(risk.reason)

    def admit(self, risk: TextRisk | None) -> None:
        """Raises UnreadableImageError where a file at this risk is refused."""
        refusal = self.refusal(risk)
        if refusal is not None:
            raise UnreadableImageError(refusal)


SHOW_ALL = TextPolicy("allow")
_TENTH = 0.1


def text_policy_of(settings: Settings) -> TextPolicy:
    """The policy that the settings ask for."""
    return TextPolicy(settings.burned_in, blank=bool(settings.blank_text))


def without_text(picture: Picture, image: StudyImage, policy: TextPolicy, steps: list[str]) -> Picture:
    """The picture without the text that is found in it, and that was found in it at another window."""
    if image.text_risk is not None:
        steps.append(f"text may be burned in ({image.text_risk.reason}): {_what_helps(image.text_risk, policy)}")
    found = find_text(picture) if policy.blank else ()
    places = tuple(dict.fromkeys((*image.text_places, *found)))
    if policy.blank and not places:
        steps.append("text: none found")
    if not places:
        return picture
    blanked, share = blank(picture, places)
    steps.append(f"text: {_percent(share)} % of the picture blanked")
    return blanked


def _what_helps(risk: TextRisk, policy: TextPolicy) -> str:
    if risk.cropped:
        return "what lies outside the regions is cut off"
    return "it is looked for" if policy.blank else "shown, as RADSEARCH_BURNED_IN=allow says"


def _percent(share: float) -> str:
    """Two digits; from ten per cent on whole ones."""
    return f"{100 * share:.0f}" if share >= _TENTH else f"{100 * share:.2g}"
