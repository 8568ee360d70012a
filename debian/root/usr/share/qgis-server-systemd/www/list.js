// SPDX-License-Identifier: GPL-2.0-or-later
// What follows from the list of projects: knows nothing of the page. All texts of the list are of
// strangers.

export const FORMAT = 1;

const SERVICES = ["WMS", "WMTS", "WFS", "WCS"];

const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

// The projects in whose title, name or abstract each of the words is.
export function found(projects, search) {
  const words = plain(search).split(/\s+/).filter(Boolean);
  return projects.filter((project) => {
    const text = plain(`${project.title}\n${project.name}\n${project.abstract}`);
    return words.every((word) => text.includes(word));
  });
}

export function sorted(projects, order, language) {
  const { compare } = new Intl.Collator(language, { numeric: true });
  const byTitle = (a, b) => compare(a.title, b.title) || compare(a.name, b.name);
  const byChange = (a, b) => (b.changed ?? 0) - (a.changed ?? 0) || byTitle(a, b);
  return [...projects].sort(order === "changed" ? byChange : byTitle);
}

// The address of a project for a client, from that of the page.
export function address(project, page) {
  const url = new URL(project.address, page);
  url.search = url.hash = "";
  return url.href;
}

// A picture of the whole project that fills a frame; empty where there can be none.
export function picture(project, page, width, height) {
  const { crs, extent, layers } = project.map;
  if (!crs) return "";
  const [west, south, east, north] = extent;
  const unit = Math.max((east - west) / width, (north - south) / height);
  const across = (unit * width) / 2;
  const up = (unit * height) / 2;
  const [x, y] = [(west + east) / 2, (south + north) / 2];
  const query = {
    SERVICE: "WMS", VERSION: "1.1.1", REQUEST: "GetMap", FORMAT: "image/png",
    LAYERS: layers.join(","), STYLES: "", SRS: crs, WIDTH: width, HEIGHT: height,
    BBOX: [x - across, y - up, x + across, y + up].join(","),
  };
  // Not by URLSearchParams: its "+" is none of a space to QGIS Server.
  const parts = Object.entries(query).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  return `${address(project, page)}?${parts.join("&")}`;
}

// Its services, as pairs of a word and an address.
export function links(project, page, capabilities) {
  const at = address(project, page);
  const offered = SERVICES.filter((service) => project.services.includes(service));
  const pairs = offered.map((service) => [
    capabilities.replace("#", service), `${at}?SERVICE=${service}&REQUEST=GetCapabilities`,
  ]);
  if (project.services.includes("OGC API Features")) pairs.push(["OGC API", `${at}/wfs3/`]);
  return pairs;
}
