// Cards of images with buttons below each. All words are set as text, never as HTML; see ui/gallery.py.
export default function ({ parentElement, data, setTriggerValue }) {
  const grid = parentElement.querySelector(".rs-grid");
  const ask = (name, id, text = null) => setTriggerValue("act", [name, id, text]);
  grid.style.setProperty("--rs-width", `${data.width}px`);

  // A card that is as it was stays, so that nothing flickers.
  const before = new Map([...grid.children].map((cell) => [cell.dataset.stamp, cell]));
  grid.replaceChildren(
    ...data.cards.map((card) => {
      const stamp = JSON.stringify([card, data.actions]);
      const cell = before.get(stamp) ?? made(card);
      before.delete(stamp);
      cell.dataset.stamp = stamp;
      cell.ask = ask;
      return cell;
    }),
  );

  function made(card) {
    const cell = element("div", "rs-cell");
    const figure = element("figure", `rs-card rs-${card.kind || "plain"}`);
    const picture = element("div", "rs-picture");
    if (card.picture) {
      const image = element("img");
      image.src = card.picture;
      image.alt = card.spoken;
      picture.append(image);
    } else {
      const tile = element("div", "rs-none");
      tile.append(element("b", "", card.modality), card.region, element("br"), "no picture kept");
      picture.append(tile);
    }
    if (data.actions.some((action) => action.name === "open")) {
      picture.classList.add("rs-opens");
      picture.onclick = () => cell.ask("open", card.id);
    }
    const words = element("figcaption", "rs-words");
    const top = element("div", "rs-top");
    top.append(element("span", "", card.top), element("span", "", card.score));
    const finding = element("div", "rs-finding", card.finding);
    const rest = element("div", "rs-rest", card.rest || "\u00a0");
    [finding.title, rest.title] = [card.finding, card.rest];
    words.append(top, finding, ...(card.probable ? [element("div", "rs-rest", card.probable)] : []), rest);
    figure.append(picture, words);
    cell.append(figure);
    if (data.actions.length) cell.append(buttons(card, cell));
    if (card.note !== null) cell.append(note(card, cell));
    return cell;
  }

  function buttons(card, cell) {
    const row = element("div", "rs-acts");
    for (const { name, icon, words, label } of data.actions) {
      const button = element("button", `rs-act rs-act-${name}`);
      const drawn = element("span", "rs-icon", icon);
      drawn.setAttribute("aria-hidden", "true");
      button.type = "button";
      button.title = words;
      button.setAttribute("aria-label", `${words}: ${card.spoken}`);
      button.onclick = () => cell.ask(name, card.id);
      button.append(drawn);
      if (label) button.append(element("span", "", label));
      row.append(button);
    }
    return row;
  }

  function note(card, cell) {
    const input = element("input", "rs-note");
    Object.assign(input, { type: "text", value: card.note, placeholder: "note", maxLength: data.longest_note });
    input.setAttribute("aria-label", `Note on ${card.spoken}`);
    input.onchange = () => cell.ask("note", card.id, input.value);
    return input;
  }

  function element(tag, name = "", words = "") {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (words) made.textContent = words;
    return made;
  }
}
