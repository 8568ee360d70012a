// SPDX-License-Identifier: GPL-2.0-or-later
// What the map asks QGIS Server for. Knows nothing of the page; names and titles are of strangers.

const PIXEL = 0.00028;

// Most maps of the web are in this system, which has a place for all but the poles.
const MERCATOR = "EPSG:3857";
const RADIUS = 6_378_137;
const EDGE = Math.PI * RADIUS;

const degrees = (radians) => (radians * 180) / Math.PI;

function url(service, query) {
  const parts = Object.entries(query).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  return `${service}?${parts.join("&")}`;
}

const child = (node, name) => [...node.children].find((one) => one.localName === name);
const textOf = (node, name) => child(node, name)?.textContent.trim() ?? "";

// Its sides in a document of WMS 1.3.0, where y comes first if the axes are inverted.
function box(node, crs, inverted) {
  const boxes = [...node.children].filter((one) => one.localName === "BoundingBox");
  const own = boxes.find((one) => one.getAttribute("CRS") === crs);
  if (!own) return null;
  const names = inverted ? ["miny", "minx", "maxy", "maxx"] : ["minx", "miny", "maxx", "maxy"];
  const sides = names.map((side) => Number(own.getAttribute(side)));
  return sides.every(Number.isFinite) && sides[0] < sides[2] && sides[1] < sides[3] ? sides : null;
}

function layer(node, crs, inverted) {
  const inner = [...node.children].filter((one) => one.localName === "Layer");
  return {
    name: textOf(node, "Name"),
    title: textOf(node, "Title"),
    queryable: node.getAttribute("queryable") === "1",
    shown: node.getAttribute("visible") !== "0",
    attribution: child(node, "Attribution") ? textOf(child(node, "Attribution"), "Title") : "",
    extent: box(node, crs, inverted),
    layers: inner.map((one) => layer(one, crs, inverted)),
    opacity: 255,
  };
}

// In which system the project is shown, with its extent in it: Web Mercator where the server offers
// it and all of the project has a place in it, else its own. `own`: the same for its own.
function view(node, own) {
  const offered = [...node.children]
    .some((one) => one.localName === "CRS" && one.textContent.trim() === MERCATOR);
  const extent = box(node, MERCATOR, false);
  if (own.crs === MERCATOR || !offered || !extent) return own;
  if (!extent.every((side) => Math.abs(side) <= EDGE + 1)) return own;
  return { crs: MERCATOR, inverted: false, metres: 1, extent };
}

// The project as GetProjectSettings tells it: by WMS 1.3.0, whichever version is asked for.
export function project(xml, own) {
  const root = [...xml.getElementsByTagName("*")].find((one) => one.localName === "Layer");
  const shown = root ? view(root, own) : own;
  const templates = [...xml.getElementsByTagName("*")]
    .filter((one) => one.localName === "ComposerTemplate");
  return {
    root: root ? layer(root, shown.crs, shown.inverted) : null,
    view: shown,
    layouts: templates.map((one) => ({
      name: one.getAttribute("name") ?? "",
      map: [...one.children].find((part) => part.localName === "ComposerMap")
        ?.getAttribute("name") ?? "",
    })).filter((one) => one.name && one.map),
  };
}

// Those without layers in them, the uppermost first.
export function leaves(root) {
  return root.layers.length ? root.layers.flatMap(leaves) : [root];
}

// What is drawn, the lowest first.
export function drawn(root) {
  const below = (one, on) => {
    const shown = on && one.shown;
    return one.layers.length ? one.layers.flatMap((each) => below(each, shown)) : [shown && one];
  };
  return below(root, true).filter((one) => one && one.name && !one.name.includes(",")).reverse();
}

const of = (layers) => ({
  LAYERS: layers.map((one) => one.name).join(","),
  STYLES: layers.map(() => "").join(","),
  OPACITIES: layers.map((one) => one.opacity).join(","),
});

const frame = (crs, extent, width, height) => ({
  VERSION: "1.1.1", SRS: crs, BBOX: extent.join(","), WIDTH: width, HEIGHT: height,
});

export function settings(service) {
  return url(service, { SERVICE: "WMS", VERSION: "1.3.0", REQUEST: "GetProjectSettings" });
}

export function picture(service, crs, layers, extent, width, height) {
  return url(service, {
    SERVICE: "WMS", REQUEST: "GetMap", ...frame(crs, extent, width, height), ...of(layers),
    FORMAT: "image/png", TRANSPARENT: "TRUE",
  });
}

export function info(service, crs, layers, extent, width, height, x, y) {
  const asked = layers.filter((one) => one.queryable);
  return url(service, {
    SERVICE: "WMS", REQUEST: "GetFeatureInfo", ...frame(crs, extent, width, height), ...of(asked),
    QUERY_LAYERS: asked.map((one) => one.name).join(","), X: x, Y: y, FEATURE_COUNT: 10,
    INFO_FORMAT: "application/json",
  });
}

export function legend(service, name) {
  return url(service, {
    SERVICE: "WMS", VERSION: "1.1.1", REQUEST: "GetLegendGraphic", LAYER: name,
    FORMAT: "image/png", LAYERTITLE: "FALSE",
  });
}

export function print(service, crs, layers, extent, layout) {
  return url(service, {
    SERVICE: "WMS", VERSION: "1.1.1", REQUEST: "GetPrint", TEMPLATE: layout.name, SRS: crs,
    [`${layout.map}:EXTENT`]: extent.join(","), [`${layout.map}:LAYERS`]: of(layers).LAYERS,
    FORMAT: "pdf", DPI: 150,
  });
}

// The denominator, from side to side through the middle of the picture. `metres`: of a unit on the
// equator. A degree is the longest unit by far.
export function scale(extent, width, crs, metres) {
  const middle = (extent[1] + extent[3]) / 2;
  let narrow = 1;
  if (crs === MERCATOR) narrow = 1 / Math.cosh(middle / RADIUS);
  else if (metres > 9999) narrow = Math.cos(Math.min(Math.abs(middle), 89) * Math.PI / 180);
  return (extent[2] - extent[0]) / width / PIXEL * metres * narrow;
}

// The part of the address behind "#": which project, and what of it is seen in which system.
export function linked(hash) {
  const [name, x, y, zoom, crs] = hash.replace(/^#/, "").split("/").map(decoded);
  const numbers = [x, y, zoom].map(Number);
  const known = x !== undefined && numbers.every(Number.isFinite);
  return { name, view: known ? numbers : null, crs };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

// A coordinate, as precise as can be seen.
const place = (value, zoom) => value.toFixed(Math.max(0, Math.ceil(zoom * Math.log10(2)) + 1));

export function link(name, [x, y, zoom], crs) {
  return `#${encodeURIComponent(name)}/${place(x, zoom)}/${place(y, zoom)}/${zoom}/${crs}`;
}

// What people know a place by: degrees instead of Web Mercator.
export function spot(x, y, zoom, crs) {
  const web = crs === MERCATOR;
  const [across, up] = web ? [degrees(x / RADIUS), degrees(Math.atan(Math.sinh(y / RADIUS)))] : [x, y];
  const near = web ? zoom + Math.log2(EDGE / 180) : zoom;
  return `${place(across, near)}, ${place(up, near)} (${web ? "EPSG:4326" : crs})`;
}
