// SPDX-License-Identifier: GPL-2.0-or-later
// The status page: shows what is in status.json, and asks for it every few seconds. It sets texts
// alone, so nothing that a stranger has chosen becomes markup.

import { NONE, duration, largest, latest, line, rounded } from "./numbers.js";

const FORMAT = 1;
const AGAIN = 5_000;
const OLD = 15;

const { command } = document.body.dataset;
const at = (id) => document.getElementById(id);

// What is as it was stays, so that a text can be selected and copied.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// The table below a heading.
function fill(id, rows) {
  const body = document.querySelector(`[aria-labelledby=${id}] tbody`);
  while (body.rows.length > rows.length) body.lastElementChild.remove();
  rows.forEach((texts, place) => {
    const row = body.rows[place] ?? body.appendChild(document.createElement("tr"));
    texts.forEach((text, column) => {
      say(row.cells[column] ?? row.appendChild(document.createElement("td")), String(text));
    });
  });
}

const counted = (number, one, many) => (number === 1 ? `1 ${one}` : `${number} ${many}`);
const kind = (request) => `${request.service} ${request.request}`.trim() || NONE;
const day = (seconds) => new Date(seconds * 1000).toLocaleString();

function plots({ series, step }) {
  const rate = (values) => values.map((one) => one && one / step);
  const each = (value) => `${rounded(value)}/s`;
  return [
    ["Requests a second", rate(series.requests), null, each],
    ["Queue: the most that waited", series.queue, null, rounded],
    ["Waited for a worker", series.waited_half, series.waited_most, duration, "half", "99 %"],
    ["Workers took", series.drawn_half, series.drawn_most, duration, "half", "99 %"],
    ["Errors a second", rate(series.failed), rate(series.wrong), each, "server (5xx)", "client (4xx)"],
  ];
}

function plot([title, values, others, text, one, other], place) {
  const figures = at("plots");
  const figure = figures.children[place] ?? figures.appendChild(
    at("plot").content.cloneNode(true).firstElementChild,
  );
  const most = largest(values, others ?? []);
  const words = others
    ? `${one}: ${text(latest(values))}, dashed ${other}: ${text(latest(others))}`
    : `now ${text(latest(values))}`;
  say(figure.querySelector("figcaption"), title);
  say(figure.querySelector("p"), `${words}; top: ${text(most)}`);
  figure.querySelector("svg").setAttribute("aria-label", `${title}: ${words}, at most ${text(most)}`);
  figure.querySelector(".half").setAttribute("d", line(values, most, 300, 80));
  figure.querySelector(".most").setAttribute("d", others ? line(others, most, 300, 80) : "");
}

function head(given) {
  const there = given.workers.filter((one) => one.state !== "gone");
  const busy = there.filter((one) => one.state === "busy").length;
  let word = given.able ? "Serves requests" : "Can’t serve requests";
  if (given.maintenance) word = "Maintenance: clients get status 503";
  const seen = given.watched
    ? `${busy} of ${counted(there.length, "worker", "workers")} busy, `
      + counted(given.queue, "request waits", "requests wait")
    : "nothing is known of workers: the monitor does not run";
  say(at("state"), `${word}; ${seen}.`);
  const { version, qgis, nginx } = given.versions;
  say(at("versions"), [
    version && `Package ${version}, QGIS Server ${qgis}, NGINX ${nginx}.`,
    given.changed && `Last change by apply: ${day(given.changed)}.`,
    given.broken && `${counted(given.broken, "project is", "projects are")} not served.`,
  ].filter(Boolean).join(" "));
  const causes = Object.entries(given.ended).filter(([, count]) => count);
  const queues = Object.entries(given.queues).map(([name, count]) => `${name}: ${count}`);
  say(at("pool"), [
    queues.length && `Waiting in queues of several workers: ${queues.join(", ")}.`,
    causes.length && `Workers that have ended since boot: ${
      causes.map(([cause, count]) => `${count} ${cause}`).join(", ")}.`,
  ].filter(Boolean).join(" "));
}

// A link to what the documents tell; its cell stays as long as it is the same.
function more(row, place) {
  const cell = row.cells[4] ?? row.appendChild(document.createElement("td"));
  if (!/^[a-z]+(#[a-z0-9-]+)?$/.test(place ?? "")) {
    say(cell, NONE);
    return;
  }
  const anchor = cell.querySelector("a") ?? document.createElement("a");
  if (!anchor.parentNode) cell.replaceChildren(anchor);
  say(anchor, place.replace(/#/, ": ").replaceAll("-", " "));
  anchor.href = place.replace(/#|$/, ".html$&");
}

function findings(found) {
  const looked = found?.looked
    ? `${found.count} found; looked for last at ${day(found.looked)}.`
    : "Not looked for yet.";
  say(at("looked"), found
    ? looked
    : `Nobody looks for them (setting notify). ${command} check shows them.`);
  at("how").hidden = Boolean(found);
  const all = found?.all ?? [];
  fill("findings", all.map(([severity, id, where, what, fix]) => [
    severity, `${what} [${id}]`, where, fix,
  ]));
  [...document.querySelectorAll("[aria-labelledby=findings] tbody tr")].forEach((row, place) => {
    more(row, all[place][5]);
  });
}

function show(given) {
  const { recent } = given;
  const time = (ago) => new Date((given.written - ago) * 1000).toLocaleTimeString();
  head(given);
  fill("workers", given.workers.map((one) => [
    one.lane === "heavy" ? `${one.name} (heavy requests)` : one.name, one.state, duration(one.for),
    one.memory === null ? NONE : `${one.memory} MB`, duration(one.age), one.queued ?? NONE,
  ]));
  plots(recent).forEach(plot);
  fill("projects", recent.projects.map((one) => [
    one.name, rounded(one.seconds / recent.seconds), one.requests, one.failed,
  ]));
  fill("slow", recent.slow.map((one) => [
    one.project, kind(one), duration(one.waited), duration(one.drawn), one.status, time(one.ago), one.id,
  ]));
  fill("failed", recent.failed.map((one) => [
    one.project, kind(one), one.status, duration(one.seconds), day(given.written - one.ago), one.id,
  ]));
  findings(given.findings);
  at("all").hidden = false;
}

function warn(text) {
  say(at("old"), text);
  at("old").hidden = !text;
}

async function load() {
  try {
    const reply = await fetch("status.json", { cache: "no-store" });
    if (!reply.ok) throw new Error(`status ${reply.status}`);
    const given = await reply.json();
    // A page of a former version of the package.
    if (given.format !== FORMAT) throw new Error("load this page again");
    show(given);
    // By the server's clock, since that of the browser may be wrong.
    const age = Date.parse(reply.headers.get("Date")) / 1000 - given.written;
    warn(age > OLD
      ? `This is ${duration(age)} old. ${command} check tells whether what counts requests runs.`
      : "");
  } catch (error) {
    warn(`There is nothing new (${error.message}). ${command} check tells whether what counts `
      + "requests runs. The page tries again.");
  }
  // As long as nobody sees the page it asks for nothing.
  const seen = () => document.addEventListener("visibilitychange", load, { once: true });
  setTimeout(() => (document.hidden ? seen() : load()), AGAIN);
}

load();
