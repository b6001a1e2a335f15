// Parts of a page, marked data-region, that are replaced by what the server renders now, without leaving the page.
import { tellTimes } from "./times.js";

const served = new WeakMap(); // what the server last sent for a region, before the browser touched it
const waiting = new Set(); // regions whose news wait until nobody is using them

export function announce(text) {
  const announcer = document.getElementById("announcer");
  if (announcer && announcer.textContent !== text) announcer.textContent = text;
}

function isInUse(region) {
  if (region.querySelector(":popover-open, dialog[open]")) return true;
  const active = document.activeElement;
  return region.contains(active) && active.matches("input:not([type=radio]):not([type=checkbox]), textarea, select");
}

function replace(region, html, fresh) {
  const focused = region.contains(document.activeElement) ? document.activeElement.id : "";
  const unfolded = [...region.querySelectorAll("details[open]")].map((details) => details.closest("[id]")?.id);
  const copy = document.importNode(fresh, true);
  served.set(copy, html);
  region.replaceWith(copy);
  for (const id of unfolded) {
    const details = id && document.getElementById(id)?.querySelector("details");
    if (details) details.open = true;
  }
  tellTimes(copy);
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  document.dispatchEvent(new CustomEvent("launchpad:replaced", { detail: copy }));
}

// Takes over the regions of a page the server sent. `force` replaces also what is being used, after a form was sent.
export function adopt(text, force = false) {
  const page = new DOMParser().parseFromString(text, "text/html");
  for (const region of document.querySelectorAll("[data-region]")) {
    const fresh = page.getElementById(region.id);
    if (!fresh) continue;
    const html = fresh.outerHTML;
    if (!force && html === served.get(region)) continue;
    if (!force && isInUse(region)) {
      waiting.add(region.id);
      continue;
    }
    replace(region, html, fresh);
  }
  if (page.title) document.title = page.title;
  return page;
}

let pending = null;

// Asks the server for this page again; calls that come while one is under way share the next answer.
export function refresh() {
  pending ??= new Promise((done) => setTimeout(done, 150))
    .then(() => {
      pending = null;
      return fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
    })
    .then(async (response) => {
      // Elsewhere now: to the instance that became ready, or to the sign-in. The browser itself must go there.
      if (response.type === "opaqueredirect") location.reload();
      else if (response.status >= 502) document.dispatchEvent(new Event("launchpad:lost"));
      else if (response.ok) adopt(await response.text());
    })
    .catch(() => document.dispatchEvent(new Event("launchpad:lost")));
  return pending;
}

export function startRegions() {
  const address = new URL(location.href);
  if (address.searchParams.has("said") || address.searchParams.has("after")) {
    // What was said is on the page; reloading must not say it again.
    address.searchParams.delete("said");
    address.searchParams.delete("after");
    history.replaceState(history.state, "", address);
  }
  for (const region of document.querySelectorAll("[data-region]")) served.set(region, region.outerHTML);
  document.addEventListener("toggle", (event) => {
    if (event.newState === "closed" && waiting.size) {
      waiting.clear();
      refresh();
    }
  }, true);
  document.addEventListener("close", () => {
    // A dialog: the news that waited for it.
    if (!waiting.size) return;
    waiting.clear();
    refresh();
  }, true);
  const seconds = Math.min(...[...document.querySelectorAll("[data-refresh-seconds]")].map((it) => Number(it.dataset.refreshSeconds)));
  if (Number.isFinite(seconds)) setInterval(() => document.hidden || refresh(), seconds * 1000);
}
