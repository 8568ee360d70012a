// SPDX-License-Identifier: GPL-2.0-or-later
// The front page: shows the list of projects, and looks from time to time whether it has changed.

import { FORMAT, address, found, links, picture, sorted } from "./list.js";
import { chosen, languages } from "./words.js";

const AT_ONCE = 24;
const AGAIN = 5_000;
const SOON = 2_000;
const COPIED = 2_000;

const language = chosen(navigator.languages ?? [navigator.language]);
const words = languages[language];
const page = document.baseURI;
const at = (id) => document.getElementById(id);
const [heading, text, logo, tools, search, order, state, cards] = [
  "heading", "words", "logo", "tools", "search", "order", "state", "cards",
].map(at);

let list = { title: "", text: "", logo: "", projects: [] };
let seen = "";
let turn = 0;
const items = new Map();

function say(button, word, title) {
  button.textContent = word;
  button.setAttribute("aria-label", `${word}: ${title}`);
}

async function copy(button, code, title) {
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    // Without HTTPS there is no such clipboard: what is selected is copied in the old way.
    getSelection().selectAllChildren(code);
    if (!document.execCommand("copy")) return;
  }
  say(button, words.copied, title);
  setTimeout(() => say(button, words.copy, title), COPIED);
}

function card(project) {
  const item = at("card").content.cloneNode(true).firstElementChild;
  const [link, image] = [item.querySelector(".picture"), item.querySelector("img")];
  const [code, button] = [item.querySelector("code"), item.querySelector("button")];
  item.querySelector("h2").textContent = project.title;
  item.querySelector(".abstract").textContent = project.abstract;
  code.textContent = address(project, page);
  say(button, words.copy, project.title);
  button.addEventListener("click", () => copy(button, code, project.title));
  const open = item.querySelector(".open");
  if (project.map.crs) {
    const anchor = open.firstElementChild;
    anchor.textContent = words.open;
    anchor.href = `page/map.html#${encodeURIComponent(project.name)}`;
    anchor.setAttribute("aria-label", `${words.open}: ${project.title}`);
  } else {
    open.remove();
  }
  const small = picture(project, page, 320, 200);
  if (small) {
    link.href = picture(project, page, 1600, 1000);
    link.setAttribute("aria-label", words.picture.replace("#", () => project.title));
    image.addEventListener("error", () => image.remove());
    image.src = small;
  } else {
    image.remove();
  }
  for (const [word, target] of links(project, page, words.capabilities)) {
    const line = document.createElement("li");
    const anchor = line.appendChild(document.createElement("a"));
    anchor.textContent = word;
    anchor.href = target;
    anchor.setAttribute("aria-label", `${word}: ${project.title}`);
    item.querySelector(".links").append(line);
  }
  return item;
}

function item(project) {
  const key = JSON.stringify(project);
  if (!items.has(key)) items.set(key, card(project));
  return items.get(key);
}

// The first cards at once, and the others when the browser has time between two of its tasks.
function put(shown, from, mine) {
  if (mine !== turn) return;
  const some = shown.slice(from, from + AT_ONCE).map(item);
  if (from) cards.append(...some);
  else cards.replaceChildren(...some);
  if (from + AT_ONCE < shown.length) setTimeout(put, 0, shown, from + AT_ONCE, mine);
}

function show() {
  const shown = sorted(found(list.projects, search.value), order.value, language);
  put(shown, 0, ++turn);
  tools.hidden = !list.projects.length;
  if (!list.projects.length) state.textContent = words.empty;
  else if (!shown.length) state.textContent = words.nothing;
  else state.textContent = shown.length === 1 ? words.one : words.many.replace("#", shown.length);
}

function take(content) {
  if (content === seen) return;
  performance.mark("take");
  const given = JSON.parse(content);
  if (given.format !== FORMAT) throw new Error("format");
  list = given;
  // What has not changed keeps its card, and the picture in it.
  const kept = new Set(list.projects.map((project) => JSON.stringify(project)));
  for (const key of [...items.keys()]) if (!kept.has(key)) items.delete(key);
  seen = content;
  heading.textContent = document.title = list.title || words.heading;
  text.textContent = list.text;
  text.hidden = !list.text;
  logo.hidden = !list.logo;
  if (list.logo) logo.src = list.logo;
  show();
  performance.mark("shown");
}

async function load() {
  let pause = AGAIN;
  try {
    const reply = await fetch("page/projects.json", { cache: "no-cache" });
    if (reply.ok) {
      take(await reply.text());
    } else if (reply.status === 404 && !seen) {
      state.textContent = words.making;
      pause = SOON;
    } else {
      throw new Error(reply.status);
    }
  } catch {
    if (!seen) state.textContent = words.failed;
  }
  setTimeout(() => (document.hidden ? look() : load()), pause);
}

// As long as nobody sees the page it asks for nothing.
function look() {
  document.addEventListener("visibilitychange", load, { once: true });
}

document.documentElement.lang = language;
heading.textContent = document.title = words.heading;
document.querySelector("label[for=search]").textContent = words.search;
document.querySelector("label[for=order]").textContent = words.order;
for (const option of order.options) option.textContent = words[option.value];
state.textContent = words.loading;
tools.addEventListener("submit", (event) => event.preventDefault());
search.addEventListener("input", show);
order.addEventListener("change", show);
load();
