// A quiet bar while the browser is offline or the server does not respond; it goes away when it responds again.
import { refresh } from "./regions.js";
import { toast } from "./toasts.js";

const FIRST_WAIT_MS = 2_000;
const LONGEST_WAIT_MS = 15_000;
const TEXTS = {
  offline: "You are offline. This page may be out of date.",
  unreachable: "The server is not responding. Retrying…",
};

let state = ""; // "", "offline" or "unreachable"
let lostForm = false; // something was sent that did not arrive
let timer = 0;
let wait = FIRST_WAIT_MS;

function become(next) {
  if (state === next) return;
  state = next;
  const bar = document.getElementById("connection");
  bar.textContent = TEXTS[next] ?? "";
  bar.dataset.state = next;
}

function back() {
  clearTimeout(timer);
  wait = FIRST_WAIT_MS;
  if (!state) return;
  become("");
  if (lostForm) toast("info", "Connected again. Please repeat your last action.");
  lostForm = false;
  refresh();
}

async function probe() {
  clearTimeout(timer);
  if (!navigator.onLine) return become("offline");
  try {
    const response = await fetch("/healthz", { cache: "no-store", signal: AbortSignal.timeout(10_000) });
    if (response.ok) return back();
  } catch {
    // Still away.
  }
  become(navigator.onLine ? "unreachable" : "offline");
  timer = setTimeout(probe, wait);
  wait = Math.min(LONGEST_WAIT_MS, wait * 1.5);
  return undefined;
}

// A request did not reach the server. `form`: what a person sent was lost with it.
export function lost({ form = false } = {}) {
  lostForm ||= form;
  become(navigator.onLine ? "unreachable" : "offline");
  clearTimeout(timer);
  timer = setTimeout(probe, wait);
}

export function startOnline() {
  addEventListener("offline", () => become("offline"));
  addEventListener("online", probe);
  document.addEventListener("launchpad:lost", () => lost());
  document.addEventListener("visibilitychange", () => document.hidden || (state && probe()));
  if (!navigator.onLine) become("offline");
}
