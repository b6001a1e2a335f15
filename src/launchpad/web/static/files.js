// The pages of files: selecting by mouse and keyboard, and what needs one or some selected. Uploads: uploads.js.
import { announce } from "./regions.js";
import { startUploads } from "./uploads.js";

const STEPS = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity };

let chosen = new Set(); // values of the boxes that are checked, kept while the list is renewed
let anchor = null; // the row that a selection by Shift began at

const form = () => document.querySelector("form[data-selection]");
const rows = () => [...(form()?.querySelectorAll("tr[data-entry]") ?? [])];
const boxOf = (row) => row.querySelector("input[type=checkbox]");

function select(row, on) {
  const box = boxOf(row);
  box.checked = on;
  if (on) chosen.add(box.value);
  else chosen.delete(box.value);
}

function tell() {
  const here = form();
  if (!here) return;
  const all = rows();
  const number = all.filter((row) => boxOf(row).checked).length;
  for (const button of here.querySelectorAll("[data-needs]")) button.disabled = button.dataset.needs === "one" ? number !== 1 : number === 0;
  const count = here.querySelector("[data-count]");
  const text = number ? `${number} selected` : "None selected";
  if (count.textContent !== text) count.textContent = text;
  const whole = here.querySelector("[data-all]");
  whole.checked = number > 0 && number === all.length;
  whole.indeterminate = number > 0 && number < all.length;
}

function range(from, to, on) {
  const all = rows();
  const [first, last] = [all.indexOf(from), all.indexOf(to)].sort((a, b) => a - b);
  for (const row of all.slice(Math.max(first, 0), last + 1)) select(row, on);
}

function onChange(event) {
  const box = event.target;
  if (!form()?.contains(box) || box.type !== "checkbox") return;
  if (box.matches("[data-all]")) for (const row of rows()) select(row, box.checked);
  else {
    const row = box.closest("tr");
    select(row, box.checked);
    anchor = row;
  }
  tell();
}

function onClick(event) {
  const box = event.target.closest?.("tr[data-entry] input[type=checkbox]");
  if (box && event.shiftKey && anchor?.isConnected) {
    range(anchor, box.closest("tr"), box.checked);
    tell();
  }
  const opens = event.target.closest?.("[data-opens=rename]");
  if (opens) {
    const row = rows().find((one) => boxOf(one).checked);
    const field = document.getElementById("rename-name");
    field.value = row?.dataset.name ?? "";
    // The name without its suffix, which is what people change.
    setTimeout(() => {
      field.focus();
      const dot = field.value.lastIndexOf(".");
      field.setSelectionRange(0, dot > 0 ? dot : field.value.length);
    });
  }
}

function move(row, by, extending) {
  const all = rows();
  const next = all[Math.min(all.length - 1, Math.max(0, all.indexOf(row) + by))];
  if (!next) return;
  const kind = document.activeElement.closest("td")?.className ?? "files-name";
  (next.querySelector(`td.${kind} :is(a, input)`) ?? boxOf(next)).focus();
  if (!extending) return;
  if (!anchor?.isConnected) anchor = row;
  select(row, true);
  select(next, true);
  tell();
}

function press(selector) {
  const button = form().querySelector(selector);
  if (button && !button.disabled) button.click();
}

function onKey(event) {
  if (event.key === "Enter" && event.target.matches?.("dialog input[form]")) {
    event.preventDefault();
    event.target.closest("dialog").querySelector("button[type=submit]").click();
    return;
  }
  const here = form();
  const row = event.target.closest?.("tr[data-entry]");
  if (!here || document.querySelector("dialog[open]") || !here.contains(event.target) || event.altKey || event.metaKey) return;
  const all = rows();
  if (row && event.key in STEPS) move(row, STEPS[event.key], event.shiftKey && Math.abs(STEPS[event.key]) === 1);
  else if (event.key === "a" && event.ctrlKey) all.forEach((one) => select(one, true));
  else if (event.key === "Escape") all.forEach((one) => select(one, false));
  else if (event.key === " " && row && event.target.matches("a")) select(row, !boxOf(row).checked);
  else if ((event.key === "Delete" || event.key === "F2") && row) {
    if (!all.some((one) => boxOf(one).checked)) select(row, true);
    tell();
    press(event.key === "F2" ? "[data-opens=rename]" : "button[value=trash], [commandfor=erase]");
  } else return;
  event.preventDefault();
  tell();
}

// The list was renewed: what was selected and is still listed stays selected.
function renewed() {
  for (const row of rows()) if (chosen.has(boxOf(row).value)) boxOf(row).checked = true;
  chosen = new Set(rows().map(boxOf).filter((box) => box.checked).map((box) => box.value));
  tell();
  const note = document.getElementById("files-note");
  if (note) announce(note.querySelector("p").textContent);
}

// Folders below the one that is being typed, as choices.
const known = new Map();
async function suggest(field) {
  const above = field.value.includes("/") ? field.value.slice(0, field.value.lastIndexOf("/")) : "";
  if (known.has(above)) return;
  known.set(above, true);
  const query = new URLSearchParams({ path: above, limit: "1000", hidden: "false" });
  try {
    const response = await fetch(`/api/v1/home/entries?${query}`, { headers: { Accept: "application/json" } });
    if (!response.ok) return;
    const { entries } = await response.json();
    const list = document.getElementById("move-folders");
    const there = new Set([...list.options].map((option) => option.value));
    for (const { name, kind, encoded_name: strange } of entries) {
      const path = above ? `${above}/${name}` : name;
      if (kind !== "folder" || strange || there.has(path)) continue;
      const option = document.createElement("option");
      option.value = path;
      list.append(option);
    }
  } catch {
    known.delete(above); // typing still works
  }
}

function start() {
  document.addEventListener("change", onChange);
  document.addEventListener("click", onClick);
  document.addEventListener("keydown", onKey);
  document.addEventListener("focusin", (event) => event.target.id === "move-to" && suggest(event.target));
  document.addEventListener("input", (event) => event.target.id === "move-to" && suggest(event.target));
  document.addEventListener("submit", (event) => {
    if (event.target.matches?.("[data-selection]") && !event.submitter?.matches("[data-plain]")) {
      chosen.clear();
      known.clear();
    }
  });
  document.addEventListener("launchpad:replaced", (event) => event.detail.id === "files" && renewed());
  for (const row of rows()) if (boxOf(row).checked) chosen.add(boxOf(row).value); // the browser went back to this page
  tell();
  startUploads();
}

start();
