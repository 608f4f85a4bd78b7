// The layout editor: boxes over a picture. Coordinates are fractions of the frame and angles radians clockwise, as in
// vlad_lightning.types.Layout; a rotation acts in the unit square, so on a wide picture a turned box is a parallelogram.
const WIDTH = 1000; // of the drawing, in its own units; its height follows the frame
const SMALLEST = 0.02; // side of a box
const STEP = 0.01; // of the arrow keys
const TURN = Math.PI / 36; // of r and R
const SNAP = Math.PI / 12; // of a rotation with shift
const MOST_UNDO = 200;
const WHOLE = 0.75; // area from which a box is a background, as in layout/overlaps.py
const ORDER = ["object", "region", "word"]; // what lies below what
const NEW = { word: { text: "WORD", w: 0.5, h: 0.16 }, object: { text: "a red star", w: 0.3, h: 0.3 }, region: { text: "region", w: 0.6, h: 0.3 } };
const NAMES = { sans: "sans", serif: "serif", mono: "mono", hand: "handwriting" };

const find = (selector) => element.querySelector(selector);
const svg = find("svg");
const layers = { boxes: find(".boxes"), handles: find(".handles") };
const field = (name) => find(`[name="${name}"]`);
const copy = (thing) => JSON.parse(JSON.stringify(thing));
const made = (name, parent, attributes = {}) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return parent.appendChild(node);
};

let state = { width: 1, height: 1, picture: null, regions: false, fonts: [], colours: {}, boxes: [] };
let chosen = -1; // index into state.boxes
let nodes = []; // the group of each box, at its index
let undone = [];
let past = [];
let last = ""; // what the last change was, to join the letters of a word into one step of undo
let drag = null;

const height = () => (WIDTH * state.height) / state.width;
const pixel = () => WIDTH / Math.max(svg.clientWidth, 1); // one pixel of the screen, in the drawing's units
const turned = (angle, x, y) => [x * Math.cos(angle) - y * Math.sin(angle), x * Math.sin(angle) + y * Math.cos(angle)];
const at = (box, across, down) => {
  const [x, y] = turned(box.angle, across * box.w, down * box.h);
  return [box.x + x, box.y + y];
};
const CORNERS = [[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]];
const drawn = ([x, y]) => [x * WIDTH, y * height()];
const bounded = (value, low, high) => Math.min(Math.max(value, low), high);
const wrapped = (angle) => Math.atan2(Math.sin(angle), Math.cos(angle));

// --- changes and their history ---

function change(kind, edit, joined = false) {
  const before = copy(state.boxes);
  edit();
  if (JSON.stringify(before) === JSON.stringify(state.boxes)) return;
  if (!(joined && kind === last)) remember(before);
  last = kind;
  publish();
}

function remember(boxes) {
  past.push(boxes);
  if (past.length > MOST_UNDO) past.shift();
  undone = [];
}

function publish() {
  // a fresh copy: the page compares by identity
  props.value = copy(state);
  draw();
}

function travel(from, to) {
  if (!from.length) return;
  to.push(copy(state.boxes));
  state.boxes = from.pop();
  chosen = bounded(chosen, -1, state.boxes.length - 1);
  last = "";
  publish();
}

function add(kind) {
  const shift = (0.07 * state.boxes.length) % 0.4;
  change("add", () => {
    const lettering = kind === "word" ? { font: null, colour: null } : {};
    state.boxes.push({ kind, ...NEW[kind], x: 0.5, y: bounded(0.3 + shift, 0, 1), angle: 0, ...lettering });
    chosen = state.boxes.length - 1;
  });
  const text = field("text");
  if (kind === "region") nodes[chosen].focus();
  else { text.focus(); text.select(); }
}

function remove() {
  if (chosen < 0) return;
  const focused = nodes.includes(document.activeElement);
  change("remove", () => {
    state.boxes.splice(chosen, 1);
    chosen = Math.min(chosen, state.boxes.length - 1);
  });
  if (focused && chosen >= 0) nodes[chosen].focus();
}

function choose(index) {
  if (chosen !== index) last = "";
  chosen = index;
  draw();
}

// --- geometry of a drag ---

function pointer(event) {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  return [point.x / WIDTH, point.y / height()];
}

function moved(box, start, [x, y], from) {
  box.x = bounded(start.x + x - from[0], 0, 1);
  box.y = bounded(start.y + y - from[1], 0, 1);
}

function resized(box, start, [x, y], corner) {
  // the opposite corner stays
  const [across, down] = CORNERS[corner];
  const [fixedX, fixedY] = at(start, -across, -down);
  const [u, v] = turned(-start.angle, x - fixedX, y - fixedY);
  box.w = bounded(2 * across * u, SMALLEST, 3);
  box.h = bounded(2 * down * v, SMALLEST, 3);
  const [dx, dy] = turned(start.angle, across * box.w, down * box.h);
  [box.x, box.y] = [fixedX + dx, fixedY + dy];
}

function rotated(box, [x, y], coarse) {
  const angle = Math.atan2(y - box.y, x - box.x) + Math.PI / 2;
  box.angle = wrapped(coarse ? Math.round(angle / SNAP) * SNAP : angle);
}

// --- pointer: one gesture at a time, with mouse, pen or finger ---

svg.addEventListener("pointerdown", (event) => {
  const handle = event.target.closest("[data-handle]");
  const group = event.target.closest(".box");
  if (drag || event.button > 0) return;
  if (!handle && !group) return choose(-1);
  if (group) {
    choose(nodes.indexOf(group));
    group.focus({ preventScroll: true });
  }
  event.preventDefault();
  svg.setPointerCapture(event.pointerId);
  drag = {
    id: event.pointerId, handle: handle ? handle.dataset.handle : "move",
    from: pointer(event), before: copy(state.boxes), start: copy(state.boxes[chosen]),
  };
});

// Chromium scrolls in spite of touch-action on parts of a drawing, and then cancels the gesture
svg.addEventListener("touchstart", (event) => {
  if (event.target.closest(".box, [data-handle]")) event.preventDefault();
}, { passive: false });

svg.addEventListener("pointermove", (event) => {
  if (!drag || event.pointerId !== drag.id) return;
  const box = state.boxes[chosen];
  if (drag.handle === "move") moved(box, drag.start, pointer(event), drag.from);
  else if (drag.handle === "rotate") rotated(box, pointer(event), event.shiftKey);
  else resized(box, drag.start, pointer(event), Number(drag.handle));
  draw();
});

for (const end of ["pointerup", "pointercancel"]) {
  svg.addEventListener(end, (event) => {
    if (!drag || event.pointerId !== drag.id) return;
    const before = drag.before;
    drag = null;
    if (end === "pointercancel") state.boxes = before;
    else if (JSON.stringify(before) !== JSON.stringify(state.boxes)) {
      remember(before);
      last = "";
      return publish();
    }
    draw();
  });
}

// --- keyboard ---

const ARROWS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

function key(event) {
  const box = state.boxes[chosen];
  const arrow = ARROWS[event.key];
  if (arrow && event.shiftKey) {
    change("resize", () => {
      box.w = bounded(box.w + arrow[0], SMALLEST, 3);
      box.h = bounded(box.h + arrow[1], SMALLEST, 3);
    }, event.repeat);
  } else if (arrow) {
    change("move", () => moved(box, copy(box), arrow, [0, 0]), event.repeat);
  } else if (event.key === "r" || event.key === "R") {
    change("rotate", () => { box.angle = wrapped(box.angle + (event.key === "r" ? TURN : -TURN)); }, event.repeat);
  } else if (event.key === "Delete" || event.key === "Backspace") remove();
  else if (event.key === "Enter" && box.kind !== "region") field("text").focus();
  else if (event.key === "Escape") { choose(-1); document.activeElement.blur(); }
  else return false;
  return true;
}

svg.addEventListener("keydown", (event) => {
  const index = nodes.indexOf(event.target.closest(".box"));
  if (index < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
  chosen = index;
  if (key(event)) event.preventDefault();
});

svg.addEventListener("focusin", (event) => {
  const index = nodes.indexOf(event.target.closest(".box"));
  if (index >= 0 && index !== chosen) choose(index);
});

element.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.target.matches("input")) return;
  const letter = event.key.toLowerCase();
  if (letter !== "z" && letter !== "y") return;
  event.preventDefault();
  if (letter === "y" || event.shiftKey) travel(undone, past);
  else travel(past, undone);
});

// --- buttons and fields ---

const ACTIONS = {
  word: () => add("word"), object: () => add("object"), region: () => add("region"),
  undo: () => travel(past, undone), redo: () => travel(undone, past), remove,
};

find(".bar").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) ACTIONS[button.dataset.do]();
});

find(".chips").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) choose(Number(button.dataset.index));
});

const edited = (name, value, joined = false) => {
  if (chosen >= 0) change(`${name} ${chosen}`, () => { state.boxes[chosen][name] = value; }, joined);
};
field("text").addEventListener("input", (event) => edited("text", event.target.value, true));
field("font").addEventListener("change", (event) => edited("font", event.target.value || null));
field("colour").addEventListener("change", (event) => edited("colour", event.target.value || null));
field("code").addEventListener("input", (event) => edited("colour", event.target.value, true));
field("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && chosen >= 0) nodes[chosen].focus();
});

// --- drawing ---

function draw() {
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${height()}`);
  const picture = find(".picture");
  picture.setAttribute("height", height());
  if (state.picture) picture.setAttribute("href", state.picture);
  else picture.removeAttribute("href");
  while (nodes.length > state.boxes.length) nodes.pop().remove();
  while (nodes.length < state.boxes.length) nodes.push(newBox());
  state.boxes.forEach((box, index) => drawBox(nodes[index], box, index));
  order();
  drawHandles();
  drawChips();
  drawFields();
}

function newBox() {
  const group = made("g", layers.boxes, { tabindex: 0, role: "button" });
  for (const name of ["halo", "edge"]) made("polygon", group, { class: name });
  made("rect", group, { rx: 4 });
  made("text", group);
  return group;
}

function drawBox(group, box, index) {
  const points = CORNERS.map(([across, down]) => drawn(at(box, across, down)));
  for (const polygon of group.querySelectorAll("polygon")) polygon.setAttribute("points", points.join(" "));
  const whole = box.w * box.h > WHOLE && box.kind === "object";
  group.setAttribute("class", `box ${box.kind}${whole ? " whole" : ""}${index === chosen ? " chosen" : ""}`);
  const percent = (value) => Math.round(100 * value);
  group.setAttribute("aria-label", `${box.kind} ${box.text}, ${percent(box.x)} % across, ${percent(box.y)} % down, ` +
    `${percent(box.w)} by ${percent(box.h)} %, turned ${Math.round((box.angle * 180) / Math.PI)} degrees`);
  group.setAttribute("aria-pressed", index === chosen);
  const size = 12 * pixel();
  const text = group.querySelector("text");
  text.textContent = box.text.length > 24 ? `${box.text.slice(0, 23)}…` : box.text;
  text.setAttribute("font-size", size);
  // the label stands above the topmost corner, inside the frame
  const length = text.getComputedTextLength() + size * 0.8;
  const left = bounded(Math.min(...points.map(([x]) => x)), 0, Math.max(WIDTH - length, 0));
  const top = bounded(Math.min(...points.map(([, y]) => y)) - size * 1.5, 0, height() - size * 1.4);
  text.setAttribute("x", left + size * 0.4);
  text.setAttribute("y", top + size * 1.05);
  const label = group.querySelector("rect");
  for (const [name, value] of Object.entries({ x: left, y: top, width: length, height: size * 1.4 })) label.setAttribute(name, value);
}

function order() {
  // large boxes below small ones, so that each can be reached; moving a node would take its focus
  const rank = (index) => ORDER.indexOf(state.boxes[index].kind) * 10 - state.boxes[index].w * state.boxes[index].h;
  const wanted = [...nodes.keys()].sort((a, b) => rank(a) - rank(b)).map((index) => nodes[index]);
  if (drag || wanted.every((node, index) => layers.boxes.children[index] === node)) return;
  const focused = document.activeElement;
  layers.boxes.append(...wanted);
  if (nodes.includes(focused)) focused.focus({ preventScroll: true });
}

function drawHandles() {
  const box = state.boxes[chosen];
  layers.handles.toggleAttribute("hidden", !box);
  if (!box) return layers.handles.replaceChildren();
  if (!layers.handles.children.length) {
    made("line", layers.handles);
    for (const handle of ["0", "1", "2", "3", "rotate"]) {
      made("circle", layers.handles, { class: `reach ${handle}`, "data-handle": handle });
      made("circle", layers.handles, { class: "grip" });
    }
  }
  const middle = drawn(at(box, 0, -0.5));
  const [dx, dy] = turned(box.angle, 0, -34 * pixel());
  const top = [middle[0] + dx, middle[1] + dy];
  const ends = { x1: middle[0], y1: middle[1], x2: top[0], y2: top[1] };
  for (const [name, value] of Object.entries(ends)) layers.handles.querySelector("line").setAttribute(name, value);
  const places = [...CORNERS.map(([across, down]) => drawn(at(box, across, down))), top];
  layers.handles.querySelectorAll("circle").forEach((circle, index) => {
    const [x, y] = places[index >> 1];
    circle.setAttribute("cx", x);
    circle.setAttribute("cy", y);
    circle.setAttribute("r", (circle.classList.contains("grip") ? 6 : 16) * pixel());
  });
}

function drawChips() {
  const chips = find(".chips");
  while (chips.children.length > state.boxes.length) chips.lastChild.remove();
  while (chips.children.length < state.boxes.length) {
    chips.append(Object.assign(document.createElement("button"), { type: "button" }));
  }
  state.boxes.forEach((box, index) => {
    const chip = chips.children[index];
    chip.textContent = box.text.trim() || "(empty)";
    chip.className = box.kind;
    chip.dataset.index = index;
    chip.setAttribute("aria-pressed", index === chosen);
  });
}

function drawFields() {
  const box = state.boxes[chosen];
  find(".fields").toggleAttribute("hidden", !box || box.kind === "region");
  find('[data-do="region"]').toggleAttribute("hidden", !state.regions);
  find('[data-do="remove"]').disabled = !box;
  find('[data-do="undo"]').disabled = !past.length;
  find('[data-do="redo"]').disabled = !undone.length;
  find(".hint").textContent = box
    ? "Drag, or use the keys: arrows move, shift + arrows resize, r and R rotate, Delete removes, Tab goes on."
    : state.boxes.length ? "Choose a box to change it." : "No boxes yet: generate a picture, load a layout, or add a word.";
  if (!box) return;
  for (const label of element.querySelectorAll(".lettering")) label.toggleAttribute("hidden", box.kind !== "word");
  find(".text span").textContent = box.kind === "object" ? "Object, as a phrase" : "Text";
  const values = { text: box.text, font: box.font || "", colour: box.colour || "" };
  const colour = field("colour");
  for (const option of [...colour.querySelectorAll("[data-own]")]) option.remove();
  if (values.colour && !(values.colour in state.colours)) {
    const own = Object.assign(document.createElement("option"), { value: values.colour, textContent: values.colour });
    own.dataset.own = "";
    colour.append(own);
  }
  for (const [name, value] of Object.entries(values)) if (field(name).value !== value) field(name).value = value;
  const code = state.colours[values.colour] || values.colour;
  if (/^#[0-9a-f]{6}$/i.test(code)) field("code").value = code.toLowerCase();
}

function options() {
  const option = (value, textContent) => Object.assign(document.createElement("option"), { value, textContent });
  field("font").replaceChildren(option("", "as in the prompt"), ...state.fonts.map((name) => option(name, NAMES[name] || name)));
  field("colour").replaceChildren(option("", "as in the prompt"), ...Object.keys(state.colours).map((name) => option(name, name)));
}

// --- values that the server sends ---

function receive() {
  if (!props.value || !Array.isArray(props.value.boxes)) return;
  const { keep_boxes, ...next } = copy(props.value);
  if (keep_boxes) {
    // only the picture is new: what was edited since it was asked for stays
    state.picture = next.picture;
    return publish();
  }
  if (JSON.stringify(next.boxes) !== JSON.stringify(state.boxes)) {
    if (state.boxes.length) remember(copy(state.boxes));
    chosen = -1;
    last = "";
  }
  state = next;
  options();
  draw();
}

watch("value", receive);
new ResizeObserver(() => draw()).observe(svg); // labels and handles keep their size on the screen
receive();
