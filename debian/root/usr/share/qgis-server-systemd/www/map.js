// SPDX-License-Identifier: GPL-2.0-or-later
// The map of one project: a picture that is drawn again after each move, in Web Mercator or in the
// project's own reference system. Leaflet counts in the units of either.

import { address } from "./list.js";
import { chosen, languages } from "./words.js";
import * as wms from "./wms.js";

const SOON = 300;

const language = chosen(navigator.languages ?? [navigator.language]);
const words = languages[language];
const page = new URL("../", document.baseURI).href;
const at = (id) => document.getElementById(id);

const wanted = wms.linked(location.hash);
let service = "";
let crs = "";
let metres = 0;
let root = null;
let layouts = [];
let map = null;
let picture = null;
let timer = 0;

const say = (text) => { at("state").textContent = text; };

function extent() {
  const bounds = map.getBounds();
  return [bounds.getWest(), bounds.getSouth(), bounds.getEast(), bounds.getNorth()];
}

function draw() {
  clearTimeout(timer);
  timer = setTimeout(drawNow, SOON);
}

function drawNow() {
  const { x: width, y: height } = map.getSize();
  const center = map.getCenter();
  history.replaceState(null, "", wms.link(wanted.name, [center.lng, center.lat, map.getZoom()], crs));
  const layers = wms.drawn(root);
  measure(width);
  prints(layers);
  const before = picture;
  if (!layers.length || !width || !height) {
    before?.remove();
    picture = null;
    return;
  }
  const bounds = map.getBounds();
  const next = L.imageOverlay(
    wms.picture(service, crs, layers, extent(), width, height), bounds, { className: "drawn" },
  );
  say(words.drawing);
  next.on("load", () => {
    before?.remove();
    if (next === picture) say("");
  });
  next.on("error", () => {
    next.remove();
    if (next === picture) say(words.undrawn);
  });
  picture = next.addTo(map);
}

function measure(width) {
  const size = width && metres && wms.scale(extent(), width, crs, metres);
  const shown = new Intl.NumberFormat(language, { maximumSignificantDigits: 3 }).format(size);
  at("scale").textContent = size ? words.scale.replace("#", shown) : "";
  position(map.getCenter());
}

// Of the pointer, after each move of the map of its middle.
function position({ lng, lat }) {
  at("position").textContent = words.position.replace("#", wms.spot(lng, lat, map.getZoom(), crs));
}

function prints(layers) {
  const links = layouts.map((layout) => {
    const anchor = document.createElement("a");
    anchor.href = wms.print(service, crs, layers, extent(), layout);
    anchor.textContent = words.print.replace("#", () => layout.name);
    anchor.target = "_blank";
    return anchor;
  });
  at("prints").replaceChildren(...links);
  at("prints").hidden = !links.length || !layers.length;
}

const bounds = ([west, south, east, north]) => [[south, west], [north, east]];

// A browser's own "lazy" asks for all that is a few screens away.
const legends = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) {
      target.src = target.dataset.src;
      legends.unobserve(target);
    }
  }
});

function branch(layer) {
  const item = at("layer").content.cloneNode(true).firstElementChild;
  const [box, opacity] = [item.querySelector("input"), item.querySelector(".opacity")];
  const [button, image] = [item.querySelector("button"), item.querySelector("img")];
  item.querySelector("span").textContent = layer.title || layer.name;
  box.checked = layer.shown;
  box.addEventListener("change", () => { layer.shown = box.checked; draw(); });
  button.textContent = words.zoom;
  button.setAttribute("aria-label", `${words.zoom}: ${layer.title}`);
  button.hidden = !layer.extent;
  button.addEventListener("click", () => map.fitBounds(bounds(layer.extent)));
  if (layer.layers.length) {
    opacity.remove();
    image.remove();
    const list = item.appendChild(document.createElement("ul"));
    list.append(...layer.layers.map(branch));
  } else {
    opacity.setAttribute("aria-label", `${words.opacity}: ${layer.title}`);
    opacity.addEventListener("change", () => { layer.opacity = Number(opacity.value); draw(); });
    image.addEventListener("error", () => image.remove());
    image.dataset.src = wms.legend(service, layer.name);
    legends.observe(image);
  }
  return item;
}

function table(feature) {
  const made = document.createElement("table");
  for (const [key, value] of Object.entries(feature.properties ?? {})) {
    const row = made.insertRow();
    const head = row.appendChild(document.createElement("th"));
    head.textContent = key;
    row.insertCell().textContent = value === null ? "" : String(value);
  }
  return made;
}

async function ask(event) {
  const layers = wms.drawn(root);
  if (!layers.some((one) => one.queryable)) return;
  const { x: width, y: height } = map.getSize();
  const { x, y } = map.latLngToContainerPoint(event.latlng);
  const asked = wms.info(
    service, crs, layers, extent(), width, height, Math.round(x), Math.round(y),
  );
  try {
    const reply = await fetch(asked);
    const { features } = await reply.json();
    at("info").replaceChildren(...features.map(table));
    at("info").hidden = !features.length;
  } catch {
    at("info").hidden = true;
  }
}

async function open() {
  const list = await (await fetch("projects.json", { cache: "no-cache" })).json();
  const one = list.projects.find((each) => each.name === wanted.name);
  if (!one?.map.crs) throw new Error("project");
  at("heading").textContent = document.title = one.title;
  service = address(one, page);
  const text = await (await fetch(wms.settings(service))).text();
  const xml = new DOMParser().parseFromString(text, "text/xml");
  const found = wms.project(xml, one.map);
  if (!found.root) throw new Error("settings");
  ({ root, layouts, view: { crs, metres } } = found);
  map = L.map("map", {
    crs: L.CRS.Simple, minZoom: -25, maxZoom: 25, zoomSnap: 0.25, attributionControl: false,
  });
  const said = wms.leaves(root).map((layer) => layer.attribution).filter(Boolean);
  if (said.length) {
    // What Leaflet takes for HTML is made of texts here.
    const attribution = L.control({ position: "bottomright" });
    attribution.onAdd = () => {
      const element = L.DomUtil.create("div", "leaflet-control-attribution");
      element.textContent = [...new Set(said)].join(", ");
      return element;
    };
    attribution.addTo(map);
  }
  map.on("moveend resize", draw);
  // Also when what is around it grows or goes, of which Leaflet notices nothing.
  new ResizeObserver(() => map.invalidateSize()).observe(at("map"));
  map.on("mousemove", (event) => position(event.latlng));
  map.on("click", ask);
  const same = (wanted.crs ?? one.map.crs) === crs;
  if (wanted.view && same) map.setView([wanted.view[1], wanted.view[0]], wanted.view[2]);
  else map.fitBounds(bounds(found.view.extent));
  at("tree").append(...root.layers.map(branch));
  // The footer takes its room before anything is drawn.
  measure(map.getSize().x);
  draw();
}

document.documentElement.lang = language;
at("back").textContent = words.back;
at("layers").textContent = words.layers;
say(words.loading);
addEventListener("hashchange", () => {
  if (wms.linked(location.hash).name !== wanted.name) location.reload();
});
addEventListener("DOMContentLoaded", () => open().catch(() => say(words.unopened)), { once: true });
