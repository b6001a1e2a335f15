// Forms without a change of page: sent in the background, the parts that changed are replaced.
import { STALE, isStale, renewTokens } from "./csrf.js";
import { closeDialogs } from "./dialogs.js";
import { lost } from "./online.js";
import { adopt, announce } from "./regions.js";
import { showFlashes, toast } from "./toasts.js";

function busy(form, on) {
  for (const button of form.querySelectorAll("button[type=submit]")) {
    button.disabled = on;
    button.setAttribute("aria-busy", String(on));
  }
}

function showProblem() {
  const field = document.querySelector("main [aria-invalid=true]");
  (field ?? document.querySelector("main [role=alert]"))?.scrollIntoView({ block: "center" });
  field?.focus();
}

async function send(form, submitter) {
  const fields = new FormData(form, submitter); // a button that is off would not be among them
  busy(form, true);
  const post = () =>
    fetch(form.action, {
      method: "POST",
      body: new URLSearchParams(fields),
      headers: { Accept: "text/html" },
    });
  let response;
  try {
    response = await post();
    if (isStale(response)) {
      if (!(await renewTokens())) {
        busy(form, false);
        closeDialogs();
        return toast("bad", STALE);
      }
      fields.set("csrf_token", form.elements.csrf_token.value);
      response = await post();
    }
  } catch {
    busy(form, false);
    return lost({ form: true });
  }
  if (response.status === 401) return location.assign(`/sign-in?next=${encodeURIComponent(location.pathname)}`);
  const target = new URL(response.url);
  const isHere = target.pathname === location.pathname || !response.redirected;
  const text = await response.text();
  const page = new DOMParser().parseFromString(text, "text/html");
  const knows = [...document.querySelectorAll("[data-region]")].some((it) => page.getElementById(it.id));
  if (!isHere || !knows) {
    if (response.redirected) return location.assign(response.url);
    if (!knows) {
      busy(form, false);
      closeDialogs();
      return toast("bad", page.querySelector("main .lede")?.textContent ?? "That did not work. Please try again.");
    }
  }
  closeDialogs();
  adopt(text, true);
  showFlashes(page);
  if (response.ok) {
    // What was pressed may be gone; the keyboard goes on from the content, not from the top of the page.
    if (document.activeElement === document.body) document.getElementById("main").focus({ preventScroll: true });
  } else showProblem();
  if (form.isConnected) busy(form, false);
}

// The sizes on a launch row's folded line follow what is chosen below it.
function tellSize(form) {
  for (const place of form.querySelectorAll("[data-now]")) {
    const field = form.elements[place.dataset.now];
    const chosen = form.querySelector(`input[name="${place.dataset.now}"]:checked`);
    const label = chosen ? chosen.nextElementSibling.firstChild.textContent : field?.selectedOptions?.[0]?.textContent;
    if (label) place.textContent = label.trim();
  }
}

async function copy(button) {
  const field = document.getElementById(button.dataset.copy);
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
  } catch {
    document.execCommand("copy"); // plain http: the clipboard interface is for secure origins
  }
  button.querySelector("span").textContent = "Copied";
  announce("Copied");
}

export function startForms() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.matches("[data-enhance]") && !event.submitter?.matches("[data-plain]")) {
      event.preventDefault();
      send(form, event.submitter);
    } else if (form.matches("[data-once]")) {
      setTimeout(() => busy(form, true)); // after the browser has taken the form's values
    }
  });
  document.addEventListener("change", (event) => {
    const launch = event.target.closest?.("form[data-launch]");
    if (launch) tellSize(launch);
    if (event.target.matches?.("form[data-filter] select")) event.target.form.requestSubmit();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (button) copy(button);
  });
  document.querySelectorAll("form[data-launch]").forEach(tellSize);
  // A page that comes back from the browser's memory must not keep its buttons off.
  addEventListener("pageshow", (event) => event.persisted && document.querySelectorAll("form").forEach((form) => busy(form, false)));
}
