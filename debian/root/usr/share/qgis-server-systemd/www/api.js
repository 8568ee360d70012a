// SPDX-License-Identifier: GPL-2.0-or-later
// The pages of the OGC API: shows what the same address says as JSON. All texts are of strangers.

import { languages } from "./api-words.js";
import { chosen } from "./words.js";

// Of the first "/wfs3" after which the path makes sense: projects and layers may have that name.
const PATH = /^(.*?\/wfs3)(?:\/(?:(api|conformance)|(collections)(?:\/([^/]+)(?:\/(items)(?:\/([^/]+))?)?)?))?$/;
const PLACE = /^(.*?\/wfs3)(?=\/|$)/;
const ROWS = 1000;
const TITLE = "OGC API Features";

const language = chosen(navigator.languages ?? [navigator.language], languages);
const words = languages[language];
const filled = (text, one, other) => text.replace("#", () => one).replace("%", () => other);

const at = (id) => document.getElementById(id);
// Two slashes at the beginning would lead to another host.
const here = location.pathname.replace(/^\/+/, "/").replace(/\/+$/, "").replace(/\.html$/, "");
const found = PATH.exec(here);
const [, root, single, collections, layer, items, feature] = found ?? PLACE.exec(here) ?? [here, here];
const asked = new URLSearchParams(location.search);

// QGIS Server decodes no "+". A project that the address names by MAP stays named.
function address(path) {
  const map = [...asked].find(([key]) => key.toUpperCase() === "MAP");
  return `${root}${path}${map ? `?MAP=${encodeURIComponent(map[1])}` : ""}`;
}

const inside = (id) => `/collections/${encodeURIComponent(id)}`;

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

// An element with texts and elements in it.
function make(name, ...parts) {
  const element = document.createElement(name);
  element.append(...parts.map((part) => (part instanceof Node ? part : shown(part))));
  return element;
}

function shown(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function link(text, href) {
  const anchor = make("a", text);
  // Nothing but an address of the web, whoever has written it.
  if (/^https?:$/.test(new URL(href, location.href).protocol)) anchor.href = href;
  return anchor;
}

function paragraph(text) {
  const made = make("p", text);
  made.className = "text";
  return made;
}

const list = (parts) => make("ul", ...parts.map((part) => make("li", part)));

function table(rows, head) {
  const made = make("table");
  if (head) {
    const line = made.createTHead().appendChild(make("tr", ...head.map((one) => make("th", one))));
    for (const cell of line.cells) cell.scope = "col";
  }
  const body = made.appendChild(make("tbody"));
  for (const row of rows) body.append(make("tr", ...row.map((one) => make("td", one))));
  return made;
}

// Names and values.
function pairs(entries) {
  const made = table([]);
  for (const [name, value] of entries) {
    const head = make("th", name);
    head.scope = "row";
    made.tBodies[0].append(make("tr", head, make("td", value)));
  }
  return scrolled(made, words.values);
}

// A wide table is moved by the keyboard as well.
function scrolled(made, label) {
  const box = make("div", made);
  box.className = "wide";
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", label);
  return box;
}

const box = (extent) => extent?.spatial?.bbox?.[0];
const round = (number) => Math.round(number * 1e6) / 1e6;

// ---- The pages: each returns its heading and its parts

function landing(data) {
  return [
    data.title || TITLE,
    paragraph(data.description),
    list([
      link(words.collections, address("/collections")),
      link(words.description, address("/api")),
      link(words.conformance, address("/conformance")),
    ]),
  ];
}

function allCollections(data) {
  const cards = data.collections.map((one) => {
    const heading = make("h2", link(one.title || one.id, address(inside(one.id))));
    const about = make("div", heading, make("p", one.description), link(words.items, address(`${inside(one.id)}/items`)));
    about.className = "about";
    return make("li", make("article", about));
  });
  const made = make("ul", ...cards);
  made.id = "cards";
  return [words.collections, cards.length ? made : make("p", words.none)];
}

function collection(data) {
  const extent = box(data.extent);
  if (extent) {
    const [west, south, east, north] = extent;
    const ring = [[west, south], [east, south], [east, north], [west, north], [west, south]];
    draw({ type: "Polygon", coordinates: [ring] });
  }
  return [
    data.title || data.id,
    paragraph(data.description),
    make("p", link(words.items, address(`/collections/${layer}/items`))),
    ...(extent ? [make("h2", words.extent), pairs([words.west, words.south, words.east, words.north].map((name, n) => [name, round(extent[n])]))] : []),
    ...(data.crs?.length ? [make("h2", words.systems), list(data.crs)] : []),
  ];
}

function features(data) {
  const all = data.features;
  const names = [...new Set(all.flatMap((one) => Object.keys(one.properties ?? {})))];
  const rows = all.slice(0, ROWS).map((one) => [
    link(one.id, target(one)), ...names.map((name) => one.properties?.[name]),
  ]);
  const matched = data.numberMatched;
  const count = filled(matched === undefined ? words.count : words.count_of, all.length, matched);
  const more = rows.length < all.length ? `, ${filled(words.shown, rows.length)}` : "";
  const turns = [["prev", words.previous], ["next", words.next]].flatMap(([rel, word]) => {
    const to = data.links?.find((one) => one.rel === rel);
    return to ? [link(word, here + new URL(to.href, location.href).search)] : [];
  });
  const turn = make("p", ...turns);
  turn.className = "turn";
  draw(data);
  return [
    decoded(layer),
    make("p", `${count}${more}`),
    scrolled(table(rows, ["id", ...names]), words.items),
    turn,
  ];
}

const target = (one) => address(`/collections/${layer}/items/${encodeURIComponent(one.id)}`);

function item(data) {
  draw(data);
  return [`${decoded(layer)}: ${shown(data.id)}`, pairs(Object.entries(data.properties ?? {}))];
}

function description(data) {
  const parameters = (operation) => (operation.parameters ?? []).map((one) => {
    const known = one.$ref ? data.components?.parameters?.[one.$ref.split("/").pop()] : one;
    return [known?.name, known?.description, known?.schema?.type];
  });
  const operations = Object.entries(data.paths ?? {}).flatMap(([path, methods]) =>
    Object.entries(methods ?? {}).map(([method, operation]) => {
      const rows = parameters(operation);
      return make(
        "details",
        make("summary", make("code", `${method.toUpperCase()} ${path}`), ` ${shown(operation.summary)}`),
        paragraph(operation.description),
        ...(rows.length ? [scrolled(table(rows, [words.parameter, words.meaning, words.type]), filled(words.parameters, path))] : []),
      );
    }));
  const { title, description: text, contact } = data.info ?? {};
  return [
    words.description,
    ...(title ? [make("p", title)] : []),
    paragraph(text),
    ...(contact?.name || contact?.email ? [make("p", filled(words.contact, [contact.name, contact.email].filter(Boolean).join(", ")))] : []),
    make("h2", words.requests),
    ...operations,
  ];
}

// Of a newer QGIS Server.
const unknown = (data) => [decoded(here.slice(root.length + 1)) || TITLE, make("pre", JSON.stringify(data, null, 2))];

function page(data) {
  if (feature) return item(data);
  if (items) return features(data);
  if (layer) return collection(data);
  if (collections) return allCollections(data);
  if (single === "api") return description(data);
  if (single) return [words.conformance, list(data.conformsTo ?? [])];
  return found ? landing(data) : unknown(data);
}

// ---- The map: shapes alone, on no ground

// Debian's Leaflet, if libjs-leaflet is installed.
function leaflet() {
  const folder = `${root}/static/page/leaflet`;
  const sheet = document.head.appendChild(make("link"));
  sheet.rel = "stylesheet";
  sheet.href = `${folder}/leaflet.css`;
  const script = make("script");
  script.src = `${folder}/leaflet.js`;
  return Promise.all([sheet, script].map((one) => new Promise((loaded, failed) => {
    one.addEventListener("load", loaded);
    one.addEventListener("error", failed);
    document.head.append(one);
  })));
}

async function draw(shapes) {
  const some = (shapes.features ?? [shapes]).some((one) => one.geometry || one.coordinates);
  if (!some) return;
  // At once, so that nothing moves below a pointer when Leaflet is there.
  at("map").hidden = false;
  try {
    await leaflet();
  } catch {
    at("map").hidden = true;
    return;
  }
  // In another reference system these are no degrees.
  const crs = asked.has("crs") ? L.CRS.Simple : L.CRS.EPSG3857;
  const map = L.map("map", { crs, minZoom: asked.has("crs") ? -25 : 0, attributionControl: false, zoomSnap: 0.25 });
  const color = getComputedStyle(at("map")).getPropertyValue("--link").trim();
  const drawn = L.geoJSON(shapes, {
    style: { color, weight: 2 },
    pointToLayer: (_, place) => L.circleMarker(place, { radius: 5, color }),
    onEachFeature: (one, shape) => {
      // What Leaflet takes for HTML is an element here.
      if (shapes.features) shape.bindPopup(make("p", link(one.id, target(one))));
    },
  }).addTo(map);
  map.fitBounds(drawn.getBounds(), { maxZoom: 16 });
}

// ----

function way() {
  const steps = [["OGC API", ""]];
  if (single) steps.push([single === "api" ? words.description : words.conformance, ""]);
  if (collections) steps.push([words.collections, "/collections"]);
  if (layer) steps.push([decoded(layer), `/collections/${layer}`]);
  if (items) steps.push([words.items, `/collections/${layer}/items`]);
  if (feature) steps.push([decoded(feature), ""]);
  const last = steps.pop();
  at("way").append(...steps.map(([text, path]) => make("li", link(text, address(path)))), make("li", last[0]));
}

async function open() {
  at("state").textContent = words.wait;
  way();
  const reply = await fetch(here + location.search, {
    headers: { Accept: "application/json" }, cache: "no-store",
  });
  const data = await reply.json();
  // A refusal is a list.
  if (!reply.ok) throw new Error(shown(data[0]?.description ?? reply.status));
  const [heading, ...parts] = page(data);
  at("heading").textContent = document.title = heading;
  at("content").replaceChildren(...parts);
  const kind = single === "api" ? "openapi3" : "json";
  at("end").append(link(words.json, `${here}.${kind}${location.search}`));
  at("state").textContent = "";
}

document.documentElement.lang = language;
document.querySelector("nav").setAttribute("aria-label", words.place);
at("map").setAttribute("aria-label", words.map);
open().catch((error) => { at("state").textContent = filled(words.wrong, error.message); });
