"""An image as the pages show it: its picture and what is known of it. All words are escaped here."""

from dataclasses import dataclass, field

from radsearch.index import Stored
from radsearch.index.schema import facts_of
from radsearch.study import Facts, Hit
from ui.escaping import as_html
from ui.pictures import address_of, picture_of

STYLE = """
<style>
.stMainBlockContainer {padding: 4.2rem 1.5rem 1rem;}
[data-testid="stSidebarHeader"] {height: 2.5rem;}
[data-testid="stLayoutWrapper"]:has(> .st-key-query) {position: sticky; top: 4rem; align-self: flex-start;
  max-height: calc(100vh - 5rem); overflow-y: auto; flex-shrink: 0;}
.st-key-answer {overflow: visible !important;}
.rs-card {margin: 0; border-radius: 6px; overflow: hidden; background: #10141a; border: 1px solid #2b323c;}
.rs-liked {border-color: #3fb27f;} .rs-disliked {border-color: #d9705f;} .rs-query {border-color: #5aa9e6;}
.rs-picture {aspect-ratio: 1; background: #000; display: flex; align-items: center; justify-content: center;}
.rs-picture img {width: 100%; height: 100%; object-fit: contain;}
.rs-none {color: #aab4c0; background: #1a2029; width: 100%; height: 100%; display: flex; flex-direction: column;
  align-items: center; justify-content: center; text-align: center; padding: 8px; box-sizing: border-box; gap: 4px;}
.rs-none b {font-size: 1.5rem; color: #dfe6ee;}
.rs-words {padding: 6px 8px 8px; font-size: .84rem; line-height: 1.35; color: #c6ced8; overflow-wrap: anywhere;}
.rs-top {display: flex; justify-content: space-between; gap: 8px; color: #dfe6ee; font-weight: 600;}
.rs-top span:last-child {font-variant-numeric: tabular-nums; color: #9fc7ea;}
.rs-finding {color: #f2f5f8; display: -webkit-box; -webkit-line-clamp: 2; -webkit-box-orient: vertical;
  overflow: hidden;}
.rs-rest {color: #a2acb8; white-space: nowrap; overflow: hidden; text-overflow: ellipsis;}
.rs-large {max-width: 760px;}
.rs-facts {border-collapse: collapse; width: 100%; font-size: .92rem;}
.rs-facts th {text-align: left; font-weight: 400; color: #a2acb8; padding: 4px 16px 4px 0; vertical-align: top;
  white-space: nowrap;}
.rs-legend {list-style: none; margin: 0 !important; padding: 0 !important;
  display: flex; flex-wrap: wrap; gap: 2px 18px; font-size: .88rem;}
.rs-legend li {margin: 0 !important; color: #dfe6ee; max-width: 22rem; white-space: nowrap; overflow: hidden;
  text-overflow: ellipsis;}
.rs-legend b {font-size: 1.1rem;}
.rs-legend span {color: #a2acb8; font-variant-numeric: tabular-nums;}
.rs-facts td {padding: 4px 0; overflow-wrap: anywhere;}
</style>
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """An indexed image that a page shows. thumbnail: its name. head, score: a hit's rank and likeness."""

    id: str
    facts: Facts = field(default_factory=Facts)
    thumbnail: str | None = None
    head: str = ""
    score: str = ""

    @staticmethod
    def of_hit(hit: Hit) -> "Shown":
        """With its rank and score, which of one model is the cosine."""
        frame = f" \u00b7 frame {hit.frame}" if hit.frame and hit.frame > 1 else ""
        return Shown(hit.id, hit.facts, hit.thumbnail, f"{hit.rank}{frame}", f"{hit.score:.3f}")

    @staticmethod
    def of_point(point: Stored) -> "Shown":
        """Without either."""
        return Shown(point.id, facts_of(point.payload), point.payload.get("thumbnail"))


def card_of(image: Shown, *, kind: str = "", head: str | None = None) -> str:
    """HTML of an indexed image's card; `framed` has the arguments."""
    words = image.head if head is None else head
    return framed(picture_of(image.thumbnail), image.facts, head=words, score=image.score, kind=kind)


def framed(picture: bytes | None, facts: Facts, *, head: str = "", score: str = "", kind: str = "") -> str:
    """HTML of a card.

    Args:
        picture: PNG, WebP or JPEG; None for a neutral tile.
        facts: of the image.
        head: before the modality, a rank or "query".
        score: at the other end.
        kind: of the frame: `query`, `liked`, `disliked`, `large` or none.
    """
    labels = facts.labels
    top = " \u00b7 ".join(word for word in (head, labels.modality or "modality unknown") if word)
    finding = ", ".join(labels.pathology) or "no finding stated"
    return (
        f'<figure class="rs-card rs-{as_html(kind or "plain")}"><div class="rs-picture">{_seen(picture, facts)}</div>'
        f'<figcaption class="rs-words"><div class="rs-top">'
        f"<span>{as_html(top)}</span><span>{as_html(score)}</span></div>"
        f'<div class="rs-finding" title="{as_html(finding)}">{as_html(finding)}</div>'
        f'<div class="rs-rest" title="{as_html(rest_of(facts))}">{as_html(rest_of(facts)) or "&nbsp;"}</div>'
        "</figcaption></figure>"
    )


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


def _seen(picture: bytes | None, facts: Facts) -> str:
    address = None if picture is None else address_of(picture)
    if address is not None:
        return f'<img src="{address}" alt="{as_html(spoken(facts))}">'
    modality = as_html(facts.labels.modality or "?")
    return (
        f'<div class="rs-none"><b>{modality}</b>{as_html(facts.labels.region or "no region")}<br>no picture kept</div>'
    )
