// A picture to look at: the wheel zooms, dragging changes the window or draws a part; see ui/viewer.py.
const SPEED = 250; // pixels of dragging that double the window's width, or move it by its own width
const MOST_ZOOM = 16;

export default function ({ parentElement, data, setTriggerValue }) {
  const view = parentElement.querySelector(".view");
  const picture = view.querySelector("img");
  const box = view.querySelector(".box");
  const told = view.querySelector(".told");
  const parts = parentElement.querySelectorAll("feFuncR, feFuncG, feFuncB");
  const place = (view.place ??= { scale: 1, x: 0, y: 0 });
  let dragged = null;

  view.style.height = data.height;
  view.setAttribute("aria-label", data.words);
  if (picture.src !== data.address) picture.src = data.address;
  picture.style.filter = "";
  picture.onload = draw;
  draw();

  function draw() {
    picture.style.transform = `translate(${place.x}px, ${place.y}px) scale(${place.scale})`;
    const zoom = place.scale > 1.01 ? `${place.scale.toFixed(1)} x` : "";
    say(data.window ?? null, zoom);
    if (data.part) frame(data.part.map((edge) => edge / 1000));
    else if (!dragged) box.style.display = "none";
  }

  function say(window, zoom) {
    const words = window ? `centre ${round(window[0])}, width ${round(window[1])}` : "";
    told.textContent = [words, zoom].filter(Boolean).join("  ·  ");
  }

  function round(value) {
    return Math.abs(value) < 10 ? value.toFixed(2) : Math.round(value).toLocaleString("en");
  }

  function zoom(factor, x, y) {
    const scale = Math.min(MOST_ZOOM, Math.max(1, place.scale * factor));
    const by = scale / place.scale;
    place.x = scale === 1 ? 0 : x - (x - place.x) * by;
    place.y = scale === 1 ? 0 : y - (y - place.y) * by;
    place.scale = scale;
    draw();
  }

  // Where the picture itself is within the view, which may be wider or higher.
  function seen() {
    const outer = view.getBoundingClientRect();
    const rect = picture.getBoundingClientRect();
    const scale = Math.min(rect.width / picture.naturalWidth, rect.height / picture.naturalHeight);
    const [width, height] = [picture.naturalWidth * scale, picture.naturalHeight * scale];
    return {
      left: rect.left - outer.left + (rect.width - width) / 2,
      top: rect.top - outer.top + (rect.height - height) / 2,
      width,
      height,
    };
  }

  function share(event) {
    const outer = view.getBoundingClientRect();
    const at = seen();
    const part = (value, from, length) => Math.min(1, Math.max(0, (value - from) / length));
    return [part(event.clientX - outer.left, at.left, at.width), part(event.clientY - outer.top, at.top, at.height)];
  }

  function frame([left, top, right, bottom]) {
    if (!picture.naturalWidth) return;
    const at = seen();
    Object.assign(box.style, {
      display: "block",
      left: `${at.left + left * at.width}px`,
      top: `${at.top + top * at.height}px`,
      width: `${(right - left) * at.width}px`,
      height: `${(bottom - top) * at.height}px`,
    });
  }

  // What the server will draw anew, shown at once: one linear function of the grey values follows another.
  function preview([centre, width]) {
    const [oldCentre, oldWidth] = data.window;
    const slope = oldWidth / width;
    const intercept = (oldCentre - centre - oldWidth / 2) / width + 0.5;
    for (const part of parts) {
      part.setAttribute("slope", slope);
      part.setAttribute("intercept", data.inverted ? 1 - slope - intercept : intercept);
    }
    picture.style.filter = "url(#window)";
    say([centre, width], "");
  }

  view.onwheel = (event) => {
    event.preventDefault();
    const outer = view.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), event.clientX - outer.left, event.clientY - outer.top);
  };
  view.ondblclick = () => {
    Object.assign(place, { scale: 1, x: 0, y: 0 });
    draw();
  };
  view.onpointerdown = (event) => {
    const moves = event.shiftKey || event.button === 1 || (data.mode !== "part" && !data.window);
    const kind = moves ? "move" : data.mode === "part" ? "part" : "window";
    dragged = { kind, x: event.clientX, y: event.clientY, at: { ...place }, from: share(event), value: null };
    view.setPointerCapture(event.pointerId);
    event.preventDefault();
    view.focus();
  };
  view.onpointermove = (event) => {
    if (!dragged) return;
    const [right, down] = [event.clientX - dragged.x, event.clientY - dragged.y];
    if (dragged.kind === "move") {
      place.x = dragged.at.x + right;
      place.y = dragged.at.y + down;
      draw();
    } else if (dragged.kind === "part") {
      const [[x, y], [u, v]] = [dragged.from, share(event)];
      dragged.value = [Math.min(x, u), Math.min(y, v), Math.max(x, u), Math.max(y, v)];
      frame(dragged.value);
    } else if (Math.abs(right) + Math.abs(down) > 2) {
      const [centre, width] = data.window;
      dragged.value = [centre + (down * width) / SPEED, width * 2 ** (right / SPEED)];
      preview(dragged.value);
    }
  };
  view.onpointerup = view.onpointercancel = () => {
    const { kind, value } = dragged ?? {};
    dragged = null;
    if (value) setTriggerValue(kind, kind === "part" ? value.map((edge) => Math.round(edge * 1000)) : value);
  };
  view.onkeydown = (event) => {
    const [x, y] = [view.clientWidth / 2, view.clientHeight / 2];
    const moves = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] };
    if (event.key === "+" || event.key === "=") zoom(1.25, x, y);
    else if (event.key === "-") zoom(0.8, x, y);
    else if (event.key === "0") view.ondblclick();
    else if (moves[event.key] && place.scale > 1) {
      place.x += moves[event.key][0];
      place.y += moves[event.key][1];
      draw();
    } else return;
    event.preventDefault();
  };
}
