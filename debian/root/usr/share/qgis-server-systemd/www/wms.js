// SPDX-License-Identifier: GPL-2.0-or-later
// What the map asks QGIS Server for. Knows nothing of the page; names and titles are of strangers.

const PIXEL = 0.00028;

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

// The project as GetProjectSettings tells it: by WMS 1.3.0, whichever version is asked for.
export function project(xml, crs, inverted) {
  const root = [...xml.getElementsByTagName("*")].find((one) => one.localName === "Layer");
  const templates = [...xml.getElementsByTagName("*")]
    .filter((one) => one.localName === "ComposerTemplate");
  return {
    root: root ? layer(root, crs, inverted) : null,
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

// The denominator, from side to side through the middle of the picture. `metres`: of a unit, of a
// degree on the equator.
export function scale(extent, width, metres, degrees) {
  const middle = (extent[1] + extent[3]) / 2;
  const narrow = degrees ? Math.cos(Math.min(Math.abs(middle), 89) * Math.PI / 180) : 1;
  return (extent[2] - extent[0]) / width / PIXEL * metres * narrow;
}

// The part of the address behind "#": which project, and what of it is seen.
export function linked(hash) {
  const [name, x, y, zoom] = hash.replace(/^#/, "").split("/");
  const numbers = [x, y, zoom].map(Number);
  const known = x !== undefined && numbers.every(Number.isFinite);
  return { name: decoded(name ?? ""), view: known ? numbers : null };
}

// What is no code is no name either.
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

// A coordinate, as precise as can be seen.
export const place = (value, zoom) => value.toFixed(Math.max(0, Math.ceil(zoom) + 1));

export function link(name, [x, y, zoom]) {
  return `#${encodeURIComponent(name)}/${place(x, zoom)}/${place(y, zoom)}/${zoom}`;
}
