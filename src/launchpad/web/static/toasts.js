// Messages that come over the page, without moving it: what happened to what. They leave by themselves, but not while
// they are looked at; what went wrong stays until it is dismissed.
import { tellTimes } from "./times.js";

const SHORTEST_MS = 8_000;
const MS_A_SIGN = 90; // a slow reader's time
const MOST = 4;

const box = () => document.getElementById("flash");
const dismissing = new Map(); // toast → what is left of its time, and since when it runs

function isLookedAt() {
  return document.hidden || box().matches(":hover") || box().contains(document.activeElement);
}

function dismiss(toast) {
  clearTimeout(dismissing.get(toast)?.timer);
  dismissing.delete(toast);
  const next = toast.nextElementSibling ?? toast.previousElementSibling;
  const hadFocus = toast.contains(document.activeElement);
  toast.remove();
  if (hadFocus) (next?.querySelector("button") ?? document.getElementById("main")).focus({ preventScroll: true });
}

function run() {
  for (const [toast, wait] of dismissing) {
    clearTimeout(wait.timer);
    if (wait.since) wait.left = Math.max(1_000, wait.left - (performance.now() - wait.since));
    wait.since = isLookedAt() ? 0 : performance.now();
    if (wait.since) wait.timer = setTimeout(() => dismiss(toast), wait.left);
  }
}

function show(toast) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "flash-close";
  button.innerHTML = '<svg class="icon" width="16" height="16" viewBox="0 0 20 20" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" aria-hidden="true"><path d="m5.5 5.5 9 9M14.5 5.5l-9 9"/></svg>';
  button.setAttribute("aria-label", "Dismiss");
  button.addEventListener("click", () => dismiss(toast));
  toast.append(button);
  for (const old of box().querySelectorAll(".flash")) {
    const same = old.querySelector(".flash-text")?.textContent === toast.querySelector(".flash-text").textContent;
    if (same || box().children.length >= MOST) dismiss(old);
  }
  box().append(toast);
  tellTimes(toast);
  if (toast.dataset.kind !== "bad") {
    const left = Math.max(SHORTEST_MS, MS_A_SIGN * toast.textContent.length);
    dismissing.set(toast, { left, since: 0, timer: 0 });
    run();
  }
}

// kind: done, info or bad.
export function toast(kind, text) {
  const line = document.createElement("p");
  line.className = "flash";
  line.dataset.kind = kind;
  const words = document.createElement("span");
  words.className = "flash-text";
  words.textContent = text;
  line.append(words);
  show(line);
}

// Takes over the messages of a page that the server sent.
export function showFlashes(page) {
  const found = [...page.querySelectorAll("#flash .flash")];
  for (const line of found) show(document.importNode(line, true));
  return found.length;
}

export function startToasts() {
  // What the page came with is said once more: only what appears in a live region is read out.
  const came = [...box().children];
  box().replaceChildren();
  setTimeout(() => came.forEach(show), 50);
  for (const event of ["pointerenter", "pointerleave", "focusin"]) box().addEventListener(event, run);
  box().addEventListener("focusout", () => setTimeout(run));
  document.addEventListener("visibilitychange", run);
  addEventListener("keydown", (event) => {
    const toast = event.key === "Escape" && document.activeElement?.closest(".flash");
    if (toast) dismiss(toast);
  });
}
