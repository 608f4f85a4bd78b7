// The raters' page: consent, instructions, and one item after the other. The server knows how far a rater is;
// the page only shows what it sends, and takes an answer for saved when the server says so.
"use strict";

const base = location.pathname.replace(/\/+$/, "");
const joining = base.startsWith("/join/");
const memory = "study " + base; // where an open study's rater stopped, on this device
const $ = (id) => document.getElementById(id);
const screens = ["continue", "consent", "instructions", "item", "done", "gone"];

let criteria = [];
let item = null; // what is shown
let value = []; // the answer so far
let current = 0; // the criterion that the keys act on
let busy = false;
let watched = 0; // milliseconds that the images were visible
let since = null; // when they became visible, null while they are not

function show(name) {
  for (const screen of screens) $(screen).hidden = screen !== name;
  $("progress").hidden = name !== "item" && name !== "done";
  $("foot").hidden = name !== "item" && name !== "done";
}

function tell(text) {
  $("status").textContent = text;
}

function element(tag, settings = {}, ...children) {
  const made = Object.assign(document.createElement(tag), settings);
  made.append(...children);
  return made;
}

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

// Without a connection, or while the server restarts, this tries again; an answer is never given up.
async function call(path, body) {
  const settings = body === undefined ? {} : {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
  };
  for (let wait = 1; ; wait = Math.min(2 * wait, 15)) {
    let reply = null;
    try {
      reply = await fetch(path, settings);
    } catch { /* no connection */ }
    if (reply && reply.ok) {
      const told = await reply.json().catch(() => null);
      if (told) return told;
    } else if (reply && reply.status < 500) {
      const told = await reply.json().catch(() => ({}));
      throw new Error(told.error || "The server refused this (" + reply.status + ").");
    }
    tell("No connection to the server. Trying again ...");
    await pause(wait);
  }
}

async function guarded(action) {
  if (busy) return;
  busy = true;
  refresh();
  try {
    tell("");
    await action();
    tell("");
  } catch (error) {
    tell(error.message);
  } finally {
    busy = false;
    refresh();
  }
}

// ---- what the rater has answered, shown and changed

function refresh() {
  $("item").setAttribute("aria-busy", String(busy));
  if (!item || item.done) return;
  const complete = value.every((number) => number !== null);
  $("next").disabled = busy || !complete || since === null && watched === 0;
  $("back").disabled = busy || item.position === 0;
  document.querySelectorAll("#questions fieldset").forEach((set, row) => {
    set.classList.toggle("current", row === current);
    set.querySelectorAll("input").forEach((input) => { input.checked = Number(input.value) === value[row]; });
  });
  document.querySelectorAll("#images .choice").forEach((choice, place) => {
    choice.setAttribute("aria-pressed", String(value[0] === place));
  });
}

function score(row, number) {
  value[row] = number;
  current = row;
  refresh();
}

function scoreAndGoOn(row, number) {
  score(row, number);
  current = Math.min(row + 1, criteria.length - 1);
  refresh();
}

function fields() {
  return criteria.map((criterion, row) => {
    const choices = [1, 2, 3, 4, 5].map((number) => {
      const input = element("input", { type: "radio", name: "c" + row, value: number });
      input.addEventListener("change", () => scoreAndGoOn(row, number));
      return element("label", {}, input, element("span", { textContent: number }));
    });
    return element("fieldset", {},
      element("legend", { textContent: criterion.question }),
      element("div", { className: "scale" }, ...choices),
      element("div", { className: "ends" },
        element("span", { textContent: "1: " + criterion.low }), element("span", { textContent: "5: " + criterion.high })));
  });
}

function frame(image, place) {
  if (item.kind === "rate") return element("div", { className: "single" }, image);
  const choice = element("button", { type: "button", className: "choice" }, image,
    element("span", { textContent: place === 0 ? "← left" : "right →" }));
  choice.addEventListener("click", () => { value[0] = place; refresh(); });
  return choice;
}

// ---- one item

async function present(told) {
  item = told;
  $("count").textContent = Math.min(told.position + 1, told.total) + " of " + told.total;
  $("bar").max = told.total;
  $("bar").value = told.position;
  if (told.done) {
    $("count").textContent = told.total + " of " + told.total;
    show("done");
    return;
  }
  const rates = told.kind === "rate";
  value = told.value || Array(rates ? criteria.length : 1).fill(null);
  current = 0;
  watched = 0;
  since = null;
  $("item").className = told.kind;
  $("asked").textContent = rates ? "The image was made from this text:" : "Which image would you rather have for this text?";
  $("prompt").textContent = told.prompt;
  const images = told.images.map(() => element("img", { alt: rates ? "the image to rate" : "an image to choose" }));
  $("images").replaceChildren(...images.map(frame));
  $("questions").replaceChildren(...(rates ? fields() : []));
  show("item");
  refresh();
  scrollTo(0, 0);
  await Promise.all(images.map((image, place) => load(image, told.images[place])));
  since = document.hidden ? null : performance.now();
}

async function load(image, address) {
  for (let wait = 1; ; wait = Math.min(2 * wait, 15)) {
    image.src = wait === 1 ? address : address + "?again=" + Date.now();
    try {
      await image.decode();
      return;
    } catch {
      tell("The image did not arrive. Trying again ...");
      await pause(wait);
    }
  }
}

function look() {
  if (since !== null) watched += performance.now() - since;
  since = null;
  return watched / 1000;
}

document.addEventListener("visibilitychange", () => {
  if (!item || item.done || busy) return;
  if (document.hidden) look();
  else since = performance.now();
  refresh();
});

const next = () => guarded(async () => {
  const seconds = Math.round(100 * look()) / 100;
  await present(await call(base + "/answer", { position: item.position, value, seconds }));
});
const back = () => guarded(async () => present(await call(base + "/item?position=" + (item.position - 1))));

document.addEventListener("keydown", (event) => {
  if ($("item").hidden || busy || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Enter") {
    const pressed = document.activeElement;
    if (pressed && pressed.tagName === "BUTTON" && !pressed.classList.contains("choice")) return;
    event.preventDefault();
    if (!$("next").disabled) next();
    return;
  }
  if (item.kind === "compare" ? choose(event.key) : rate(event.key)) event.preventDefault();
});

function choose(key) {
  const place = { ArrowLeft: 0, ArrowRight: 1 }[key];
  if (place === undefined) return false;
  value[0] = place;
  refresh();
  return true;
}

function rate(key) {
  const before = value[current];
  if (/^[1-5]$/.test(key)) scoreAndGoOn(current, Number(key));
  else if (key === "ArrowLeft") score(current, before === null ? 3 : Math.max(1, before - 1));
  else if (key === "ArrowRight") score(current, before === null ? 3 : Math.min(5, before + 1));
  else if (key === "ArrowUp") current = Math.max(0, current - 1);
  else if (key === "ArrowDown") current = Math.min(criteria.length - 1, current + 1);
  else return false;
  refresh();
  return true;
}

// ---- the way to the items

const remembered = () => { try { return localStorage.getItem(memory); } catch { return null; } };

async function begin() {
  const texts = await call(base + "/texts");
  document.title = texts.title;
  $("title").textContent = texts.title;
  $("consent-text").textContent = texts.consent;
  $("instructions-text").textContent = texts.instructions;
  criteria = texts.criteria;
  if (texts.withdrawn) show("gone");
  else if (joining && remembered()) show("continue");
  else if (!texts.consented) show("consent");
  else if (texts.answered === 0) show("instructions");
  else await present(await call(base + "/item"));
}

async function agree() {
  if (joining) {
    const { path } = await call(base, {});
    try { localStorage.setItem(memory, path); } catch { /* private window: the address alone is kept */ }
    location.assign(path);
    return;
  }
  await call(base + "/consent", {});
  show("instructions");
}

async function withdraw() {
  if (!confirm("Withdraw from the study? All your answers will be deleted, and you cannot go on.")) return;
  await call(base + "/withdraw", {});
  item = null;
  show("gone");
}

$("again").addEventListener("click", () => location.assign(remembered()));
$("another").addEventListener("click", () => show("consent"));
$("agree").addEventListener("click", () => guarded(agree));
$("start").addEventListener("click", () => guarded(async () => present(await call(base + "/item"))));
$("next").addEventListener("click", next);
$("back").addEventListener("click", back);
$("help").addEventListener("click", () => show("instructions"));
$("withdraw").addEventListener("click", () => guarded(withdraw));
guarded(begin);
