// Live instances: stages, states and use as the server tells them (server-sent events), while the page is looked at.
import { announce, refresh } from "./regions.js";
import { toast } from "./toasts.js";

const BECAME = {
  running: "is running",
  frozen: "is frozen",
  stopped: "stopped",
  expired: "expired",
  failed: "stopped unexpectedly",
};

const streams = new Map(); // instance id → EventSource
const asked = new Set(); // ids whose bar the server was asked to draw

function cardOf(id) {
  return document.querySelector(`[data-instance="${id}"][data-live]`);
}

function showStage(id, { stage, queue_text: queue }) {
  const card = cardOf(id);
  if (!card) return undefined;
  if (card.dataset.queue && (queue ?? "") !== card.dataset.queue) {
    return refresh().then(() => announce(cardOf(id)?.querySelector("[data-place]")?.textContent.trim() ?? ""));
  }
  const steps = [...card.querySelectorAll(".step")];
  const at = steps.findIndex((step) => step.dataset.stage === stage);
  if (at < 0) return undefined;
  steps.forEach((step, i) => {
    step.dataset.status = i < at ? "done" : i === at ? "current" : "ahead";
    if (i === at) step.setAttribute("aria-current", "step");
    else step.removeAttribute("aria-current");
  });
  return announce(steps[at].lastChild.textContent.trim());
}

function describeBytes(count) {
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  const at = count < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(count) / 10));
  return `${(count / 1024 ** at).toFixed(1).replace(/\.0$/, "")} ${units[at]}`;
}

function showUsage(id, usage) {
  const bar = cardOf(id)?.querySelector("[role=meter]");
  if (typeof usage.memory_bytes !== "number") return;
  if (!bar) {
    // The first numbers of this instance: the server draws the bar.
    if (!asked.has(id)) refresh();
    asked.add(id);
    return;
  }
  const total = Number(bar.getAttribute("aria-valuemax"));
  const percent = Math.min(100, (100 * usage.memory_bytes) / total);
  const box = bar.closest(".meter");
  const text = `${describeBytes(usage.memory_bytes)} of ${describeBytes(total)}`;
  bar.setAttribute("aria-valuenow", usage.memory_bytes);
  bar.setAttribute("aria-valuetext", text);
  bar.querySelector("rect").setAttribute("width", percent);
  box.dataset.level = percent >= 95 ? "full" : percent >= 80 ? "high" : "ok";
  box.querySelector("[data-meter-text]").textContent = text;
}

function showState(id, { state, expires_at, grace_until, estimated_start_at: estimate, notices = [] }) {
  const expires = grace_until ?? expires_at;
  const card = cardOf(id);
  if (!card || !state) return;
  if (card.dataset.state === state) {
    // Extended, perhaps from another page. The page tells whole seconds.
    if (Math.abs(Date.parse(expires) - Date.parse(card.dataset.expires)) > 1500) refresh();
    else if (state === "queued" && (Date.parse(estimate ?? "") || 0) !== (Date.parse(card.dataset.estimate ?? "") || 0)) refresh();
    else if (card.dataset.notices && JSON.stringify(notices) !== JSON.stringify(JSON.parse(card.dataset.notices))) refresh();
    return;
  }
  const title = card.querySelector("h3")?.textContent.trim();
  if (title && BECAME[state]) toast(state === "failed" ? "bad" : "done", `${title} ${BECAME[state]}`);
  if (state === "running" && card.dataset.continue) location.replace(card.dataset.continue);
  else refresh();
}

function read(event) {
  try {
    return JSON.parse(event.data);
  } catch {
    return {};
  }
}

function listen(id) {
  const stream = new EventSource(`/api/v1/instances/${id}/events`);
  stream.addEventListener("stage", (event) => showStage(id, read(event)));
  stream.addEventListener("state", (event) => showState(id, read(event)));
  stream.addEventListener("usage", (event) => showUsage(id, read(event)));
  stream.addEventListener("error", () => {
    // The browser itself tries again after a lost connection; a stream that was refused or ended stays closed.
    if (stream.readyState !== EventSource.CLOSED) return;
    streams.delete(id);
    setTimeout(() => refresh().then(follow), 3000);
  });
  streams.set(id, stream);
}

// One stream for each live instance on the page, none for a page in the background: a browser has few connections.
function follow() {
  const wanted = document.hidden
    ? new Set()
    : new Set([...document.querySelectorAll("[data-instance][data-live]")].map((card) => card.dataset.instance));
  for (const [id, stream] of streams) {
    if (wanted.has(id)) continue;
    stream.close();
    streams.delete(id);
  }
  for (const id of wanted) if (!streams.has(id)) listen(id);
}

export function startLive() {
  follow();
  document.addEventListener("launchpad:replaced", follow);
  document.addEventListener("launchpad:ends-soon", () => refresh());
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && document.querySelector("[data-live]")) refresh();
    follow();
  });
}
