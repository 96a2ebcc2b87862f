// Values with the number of images of each, as bars; see ui/charts.py. All words are set as text, never as HTML.
export default function ({ parentElement, data, setTriggerValue }) {
  const place = parentElement.querySelector(".rs-facets");
  place.replaceChildren(
    ...data.facets.map((facet) => {
      const section = element("section", "rs-facet");
      const list = element("ul");
      const most = Math.max(1, ...facet.bars.map((bar) => bar.images));
      section.append(element("h4", "", facet.title), list);
      for (const { value, images, chosen } of facet.bars) {
        const row = element("li");
        const bar = element(data.clickable ? "button" : "div", "rs-bar");
        bar.style.setProperty("--share", `${(100 * images) / most}%`);
        bar.title = `${value}: ${images.toLocaleString("en")}`;
        bar.append(element("span", "", value), element("b", "", images.toLocaleString("en")));
        if (data.clickable) {
          bar.type = "button";
          bar.setAttribute("aria-pressed", String(chosen));
          bar.onclick = () => setTriggerValue("act", ["bar", facet.name, value]);
        }
        row.append(bar);
        list.append(row);
      }
      return section;
    }),
  );

  function element(tag, name = "", words = "") {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (words) made.textContent = words;
    return made;
  }
}
