"use strict";
// Rows and prompts are in the page already; candidates are built when their row comes near the window. Text from a run
// only ever goes through textContent.
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const gallery = byId("gallery");
  const rows = [...gallery.querySelectorAll(".row")];
  const COLORS = ["#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#f032e6", "#9a6324"];
  const WORDS = { right: "right", wrong: "wrong" };

  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  // ---------------------------------------------------------------------------------------------------- pictures

  const blocks = new Map();
  function source(id, position) {
    if (!blocks.has(id)) {
      const block = byId(`pictures-${id}`);
      if (!block) return null; // not read yet: the blocks stand at the end of the page
      blocks.set(id, block.textContent.trim().split("\n"));
    }
    return `data:image/webp;base64,${blocks.get(id)[position]}`;
  }

  function pictureOf(id, tile) {
    const box = element("span", { className: "picture" });
    if (tile.gone) {
      box.append(element("span", { className: "gone", textContent: tile.gone }));
      return box;
    }
    const image = element("img", { alt: "", decoding: "async", draggable: false });
    const src = source(id, tile.picture);
    if (src) image.src = src;
    else image.dataset.wanted = tile.picture;
    box.append(image, overlay(id, tile));
    return box;
  }

  const labels = new Map(); // of a row, so that a class has one colour in all its pictures
  function colorOf(id, label) {
    if (!labels.has(id)) {
      labels.set(id, [...new Set(data.tiles[id].flatMap((tile) => tile.boxes.map((found) => found.label)))].sort());
    }
    return COLORS[labels.get(id).indexOf(label) % COLORS.length];
  }

  function overlay(id, tile) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${tile.size[0]} ${tile.size[1]}`);
    svg.setAttribute("aria-hidden", "true");
    for (const found of tile.boxes) {
      const [x0, y0, x1, y1] = found.box;
      const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      for (const [key, value] of Object.entries({ x: x0, y: y0, width: x1 - x0, height: y1 - y0 })) rect.setAttribute(key, value);
      rect.style.stroke = colorOf(id, found.label);
      svg.append(rect);
    }
    return svg;
  }

  document.addEventListener("DOMContentLoaded", () => {
    for (const image of gallery.querySelectorAll("img[data-wanted]")) {
      image.src = source(image.closest(".row").dataset.id, Number(image.dataset.wanted));
      delete image.dataset.wanted;
    }
  });

  // ------------------------------------------------------------------------------------------------------- tiles

  const verdict = (tile) => (tile.right === null ? "" : tile.right ? "right" : "wrong");
  const mark = (tile) => ({ right: "✓", wrong: "✗", "": "" })[verdict(tile)];

  function describe(tile) {
    const said = [tile.by ? `${tile.by}, candidate ${tile.candidate}` : `candidate ${tile.candidate}`];
    if (tile.score !== null) said.push(`score ${tile.score}`);
    if (verdict(tile)) said.push(WORDS[verdict(tile)]);
    if (tile.pick) said.push("the pick");
    if (tile.gone) said.push(tile.gone);
    return said.join(", ");
  }

  function tileOf(row, tile, position) {
    const caption = element("span", { className: "caption" },
      element("b", { textContent: (tile.score ?? `no. ${tile.candidate}`) + (tile.pick && !tile.by ? " pick" : "") }),
      element("span", { className: verdict(tile), textContent: mark(tile) }));
    const button = element("button", { type: "button", tabIndex: position ? -1 : 0 }, pictureOf(row.dataset.id, tile), caption);
    if (tile.by) button.prepend(element("bdi", { className: "by", textContent: tile.by }));
    button.setAttribute("aria-label", describe(tile));
    button.addEventListener("click", () => show(row, position));
    const item = element("li", { className: "tile" }, button);
    item.classList.toggle("pick", tile.pick);
    item.classList.toggle("disagree", tile.disagree);
    return item;
  }

  function fill(row) {
    const list = row.querySelector(".tiles");
    if (list.childElementCount) return;
    list.append(...data.tiles[row.dataset.id].map((tile, position) => tileOf(row, tile, position)));
  }

  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        fill(entry.target);
        near.unobserve(entry.target);
      }
    }
  }, { rootMargin: "800px" });
  rows.forEach((row) => near.observe(row));

  // ----------------------------------------------------------------------------------------------------- filters

  const controls = { tag: byId("tag"), text: byId("text"), show: byId("show") };
  const texts = new Map(rows.map((row) => [row, row.querySelector("bdi").textContent.toLowerCase()]));

  function filter() {
    const tag = controls.tag?.value ?? "", flag = controls.show?.value ?? "";
    const words = controls.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits = (!tag || row.dataset.tag === tag)
        && (!flag || row.dataset.flags.split(" ").includes(flag))
        && words.every((word) => texts.get(row).includes(word));
      row.hidden = !fits;
      shown += fits;
    }
    gallery.dataset.show = flag;
    byId("count").textContent = `${shown} of ${rows.length} prompts`;
  }
  for (const control of Object.values(controls)) control?.addEventListener("input", filter);
  byId("boxes")?.addEventListener("change", (event) => document.body.classList.toggle("boxed", event.target.checked));

  // ------------------------------------------------------------------------------------------------- one picture

  const dialog = byId("opened");
  let current = null;
  let original = false; // load the run's own file beside the page: asked for once, kept while looking on

  function show(row, position) {
    fill(row);
    current = { row, position };
    const tile = data.tiles[row.dataset.id][position];
    const picture = pictureOf(row.dataset.id, tile);
    picture.classList.toggle("pick", tile.pick);
    picture.style.aspectRatio = tile.gone ? "1" : `${tile.size[0]} / ${tile.size[1]}`;
    byId("opened-picture").replaceChildren(picture);
    byId("opened-title").replaceChildren(element("bdi", { dir: "auto", textContent: row.querySelector("bdi").textContent }));
    byId("opened-facts").replaceChildren(...facts(tile).flatMap(([name, value, label]) => {
      const term = element("dt", { textContent: name });
      if (label) term.style.borderBottom = `3px solid ${colorOf(row.dataset.id, label)}`;
      return [term, element("dd", { textContent: value })];
    }));
    byId("opened-note").textContent = "";
    const button = byId("original");
    button.hidden = Boolean(tile.gone) || !tile.file;
    if (original && !button.hidden) loadOriginal(tile, picture);
    if (!dialog.open) {
      dialog.showModal();
      byId("next").focus();  // not autofocus: Chromium logs an error where something else already has the focus
    }
  }

  function facts(tile) {
    const found = [];
    if (tile.by) found.push(["run", tile.by]);
    found.push(["candidate", `${tile.candidate}${tile.pick ? ", the pick" : ""}`]);
    if (tile.score !== null) found.push(["score", tile.score]);
    if (tile.says !== null) found.push(["verifier", `${tile.says ? "yes" : "no"} (p(yes) ${tile.yes}, p(no) ${tile.no})`]);
    if (verdict(tile)) found.push(["judge", `${mark(tile)} ${WORDS[verdict(tile)]}`]);
    if (tile.why) found.push(["reason", tile.why]);
    for (const one of tile.boxes) {
      found.push(["found", `${one.color ? `${one.color} ` : ""}${one.label}, ${one.score.toFixed(2)} at ${one.box.map(Math.round).join(", ")}`, one.label]);
    }
    if (tile.file) found.push(["file", tile.file]);
    return found;
  }

  function loadOriginal(tile, picture) {
    const image = new Image();
    image.alt = "";
    image.addEventListener("load", () => picture.querySelector("img")?.replaceWith(image));
    image.addEventListener("error", () => {
      byId("opened-note").textContent = "The file is not beside this page; this is the preview inside it.";
    });
    image.src = tile.file.split("/").map(encodeURIComponent).join("/");
  }

  function step(by) {
    const tiles = data.tiles[current.row.dataset.id];
    show(current.row, (current.position + by + tiles.length) % tiles.length);
  }

  function otherRow(row, by) {
    const shown = rows.filter((one) => !one.hidden);
    return shown[shown.indexOf(row) + by];
  }

  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => dialog.close());
  byId("original").addEventListener("click", () => {
    original = !original;
    byId("original").setAttribute("aria-pressed", original);
    show(current.row, current.position);
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    current.row.querySelectorAll(".tile button")[current.position].focus();
    current = null;
  });

  // ---------------------------------------------------------------------------------------------------- keyboard

  const ARROWS = { ArrowRight: 1, ArrowLeft: -1 };
  function inDialog(event) {
    if (event.key in ARROWS) step(ARROWS[event.key]);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const row = otherRow(current.row, event.key === "ArrowDown" ? 1 : -1);
      if (row) show(row, 0);
    } else return;
    event.preventDefault();
  }

  function moveInRow(event, button) {
    const buttons = [...button.closest(".tiles").querySelectorAll("button")];
    const goal = { ArrowRight: 1, ArrowLeft: -1, Home: -buttons.length, End: buttons.length }[event.key];
    if (!goal) return;
    const target = buttons[Math.min(buttons.length - 1, Math.max(0, buttons.indexOf(button) + goal))];
    button.tabIndex = -1;
    target.tabIndex = 0;
    target.focus();
    event.preventDefault();
  }

  function goToRow(by) {
    const here = document.activeElement.closest?.(".row");
    const shown = rows.filter((one) => !one.hidden);
    const row = here ? otherRow(here, by) : shown[by > 0 ? 0 : shown.length - 1];
    if (!row) return;
    fill(row);
    row.scrollIntoView({ block: "start" });
    row.querySelector(".tile button").focus({ preventScroll: true });
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (dialog.open) return inDialog(event);
    if (event.target.matches("input, select, textarea")) return;
    const tile = event.target.closest?.(".tile button");
    if (tile) moveInRow(event, tile);
    if (event.key === "/") { controls.text.focus(); event.preventDefault(); }
    else if (event.key === "j") goToRow(1);
    else if (event.key === "k") goToRow(-1);
  });

  filter();
})();
