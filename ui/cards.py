"""An image as the pages show it: its picture and what is known of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from radsearch.index import Stored
from radsearch.index.schema import facts_of
from radsearch.study import Facts, Hit
from ui.escaping import as_html
from ui.pictures import address_of, picture_of

STYLE = f"<style>{Path(__file__).with_name('page.css').read_text(encoding='utf-8')}</style>"


@dataclass(frozen=True, slots=True)
class Shown:
    """An image that a page shows.

    thumbnail: its name. picture: PNG, WebP or JPEG that is shown instead. head, score: a hit's rank and likeness.
    kind: of the frame: `query`, `liked`, `disliked` or none. note: where it may have one. rest: of the last line,
    where that does not say where the picture is from. probable: how probable it is that a hit shares the query's
    finding, in words.
    """

    id: str
    facts: Facts = field(default_factory=Facts)
    thumbnail: str | None = None
    head: str = ""
    score: str = ""
    picture: bytes | None = None
    kind: str = ""
    note: str | None = None
    rest: str | None = None
    probable: str = ""

    @staticmethod
    def of_hit(hit: Hit) -> "Shown":
        """With its rank and score, which of one model is the cosine; and what that is worth, where it is known."""
        frame = f" \u00b7 frame {hit.frame}" if hit.frame and hit.frame > 1 else ""
        probable = "" if hit.probability is None else f"shares the finding: {round(100 * hit.probability)} %"
        return Shown(hit.id, hit.facts, hit.thumbnail, f"{hit.rank}{frame}", f"{hit.score:.3f}", probable=probable)

    @staticmethod
    def of_point(point: Stored) -> "Shown":
        """Without either."""
        return Shown(point.id, facts_of(point.payload), point.payload.get("thumbnail"))


def card_of(image: Shown) -> dict[str, Any]:
    """What `gallery.js` draws. Its words are as they are: they are never read as HTML there."""
    facts, labels = image.facts, image.facts.labels
    picture = picture_of(image.thumbnail) if image.picture is None else image.picture
    return {
        "id": image.id,
        "kind": image.kind,
        "picture": None if picture is None else address_of(picture),
        "spoken": spoken(facts),
        "modality": labels.modality or "?",
        "region": labels.region or "no region",
        "top": " \u00b7 ".join(word for word in (image.head, labels.modality or "modality unknown") if word),
        "score": image.score,
        "probable": image.probable,
        "finding": ", ".join(labels.pathology) or "no finding stated",
        "rest": rest_of(facts) if image.rest is None else image.rest,
        "note": image.note,
    }


def spoken(facts: Facts) -> str:
    """One line that says which image this is, for those who do not see it."""
    labels = facts.labels
    words = (labels.modality, labels.region, ", ".join(labels.pathology))
    return " ".join(word for word in words if word) or "image without labels"


def rest_of(facts: Facts) -> str:
    """Where the picture is from and of whom, in a line."""
    age = None if facts.age is None else f"{facts.age} y"
    year = None if facts.year is None else str(facts.year)
    words = (facts.labels.region, facts.view, facts.sex, age, year, facts.dataset)
    return " \u00b7 ".join(word for word in words if word)


def table_of(rows: dict[str, str]) -> str:
    """HTML of names and values."""
    lines = (f'<tr><th scope="row">{as_html(name)}</th><td>{as_html(value)}</td></tr>' for name, value in rows.items())
    return f'<table class="rs-facts"><tbody>{"".join(lines)}</tbody></table>'
