// SPDX-License-Identifier: GPL-2.0-or-later
// Shows one of this package's own documents, for the links of the status page: as much of Markdown as
// these use. No link leads to another host.

const DOCUMENTS = ["administration", "performance", "recipes", "reliability", "security"];
const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]]+)\]\(([^)\s]+)\)/g;
const ITEM = /^\s*(?:[*-]|\d+\.) /;

const main = document.getElementById("text");

// An element with texts and elements in it.
function make(name, ...parts) {
  const element = document.createElement(name);
  element.append(...parts);
  return element;
}

// Where a link of a document leads here; nothing for what is not here.
function target(href) {
  const [file, place] = href.split("#");
  const name = file ? file.replace(/\.md$/, "") : location.search.slice(1);
  if (!DOCUMENTS.includes(name)) return "";
  return `read.html?${name}${place ? `#${place}` : ""}`;
}

function inline(text) {
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(INLINE)) {
    const [whole, code, strong, words, href] = found;
    parts.push(text.slice(end, found.index));
    end = found.index + whole.length;
    if (code) parts.push(make("code", code));
    else if (strong) parts.push(make("strong", ...inline(strong)));
    else {
      const link = make("a", ...inline(words));
      link.href = target(href);
      parts.push(...(target(href) ? [link] : [...link.childNodes, ...(words === href ? [] : [` (${href})`])]));
    }
  }
  return [...parts, text.slice(end)];
}

// As GitHub makes it of a heading.
const anchor = (text) => text.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, "").trim().replace(/\s/g, "-");

// It is moved by the keyboard as well.
function scrolled(made, label) {
  const box = make("div", made);
  box.className = "scroll";
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", label);
  return box;
}

function table(lines) {
  const rows = lines.map((line) => line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/));
  const cells = (kind, row) => row.map((one) => {
    const cell = make(kind, ...inline(one.replace(/\\\|/g, "|").trim()));
    if (kind === "th") cell.scope = "col";
    return cell;
  });
  const [head, , ...body] = rows;
  return make(
    "table",
    make("thead", make("tr", ...cells("th", head))),
    make("tbody", ...body.map((row) => make("tr", ...cells("td", row)))),
  );
}

function blocks(text) {
  const lines = text.split("\n");
  const made = [];
  // The lines from the next one on for which something holds.
  const taken = (holds) => {
    const found = [];
    while (lines.length && holds(lines[0])) found.push(lines.shift());
    return found;
  };
  const goes = (line) => line.trim() && !/^(?:#|\||\s*```)/.test(line) && !ITEM.test(line);
  let heading = "";
  while (lines.length) {
    const line = lines.shift();
    if (/^\s*```/.test(line)) {
      const code = taken((one) => !/^\s*```/.test(one));
      lines.shift();
      const indent = /^\s*/.exec(line)[0];
      const plain = code.map((one) => one.replace(indent, ""));
      made.push(scrolled(make("pre", plain.join("\n")), `${heading}: to copy`));
    } else if (line.startsWith("    ")) {
      const code = [line, ...taken((one) => one.startsWith("    "))].map((one) => one.slice(4));
      made.push(scrolled(make("pre", code.join("\n")), `${heading}: to copy`));
    } else if (/^#+ /.test(line)) {
      heading = line.replace(/^#+ /, "");
      const element = make(`h${/^#+/.exec(line)[0].length}`, ...inline(heading));
      element.id = anchor(heading);
      made.push(element);
    } else if (line.startsWith("|")) {
      made.push(scrolled(table([line, ...taken((one) => one.startsWith("|"))]), `${heading}: table`));
    } else if (ITEM.test(line)) {
      const items = [[line.replace(ITEM, ""), ...taken(goes)]];
      while (lines.length && ITEM.test(lines[0])) {
        items.push([lines.shift().replace(ITEM, ""), ...taken(goes)]);
      }
      const kind = /^\s*\d/.test(line) ? "ol" : "ul";
      made.push(make(kind, ...items.map((one) => make("li", ...inline(one.join(" "))))));
    } else if (line.trim()) {
      made.push(make("p", ...inline([line, ...taken(goes)].join(" "))));
    }
  }
  return made;
}

function show() {
  document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

async function open() {
  const name = location.search.slice(1);
  if (!DOCUMENTS.includes(name)) throw new Error("there is no such document");
  const reply = await fetch(`${name}.md`);
  if (!reply.ok) throw new Error(`status ${reply.status}`);
  main.replaceChildren(...blocks(await reply.text()));
  document.title = `QGIS Server: ${main.querySelector("h1").textContent}`;
  show();
}

window.addEventListener("hashchange", show);
open().catch((error) => { main.replaceChildren(make("h1", `This can't be shown: ${error.message}`)); });
