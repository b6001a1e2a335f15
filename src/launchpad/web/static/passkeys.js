// Passkeys: the browser and the device do the work, the server says what is to be signed and checks it.
import { STALE, renewTokens } from "./csrf.js";

const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (sign) => sign.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

const SAID = {
  NotAllowedError: "Nothing was confirmed on the device. You can try again.",
  InvalidStateError: "This device has a passkey for your account already.",
  SecurityError: "The browser does not allow passkeys at this address.",
  NotSupportedError: "This device cannot make such a passkey.",
};

function described(list = []) {
  return list.map((one) => ({ ...one, id: bytes(one.id) }));
}

async function post(form, url, body, again = true) {
  const headers = { "Content-Type": "application/json", Accept: "application/json" };
  const token = form.elements.csrf_token?.value;
  if (token) headers["X-CSRF-Token"] = token;
  const response = await fetch(url, { method: "POST", headers, body: body ? JSON.stringify(body) : undefined });
  const answer = await response.json().catch(() => ({}));
  if (answer.code === "stale-page") {
    if (again && (await renewTokens())) return post(form, url, body, false);
    throw new Error(STALE);
  }
  if (!response.ok) throw new Error(answer.detail ?? "The server did not answer. Please try again.");
  return answer;
}

async function made(options) {
  const publicKey = {
    ...options,
    challenge: bytes(options.challenge),
    user: { ...options.user, id: bytes(options.user.id) },
    excludeCredentials: described(options.excludeCredentials),
  };
  const { id, rawId, type, response } = await navigator.credentials.create({ publicKey });
  return {
    id,
    rawId: text(rawId),
    type,
    response: {
      clientDataJSON: text(response.clientDataJSON),
      attestationObject: text(response.attestationObject),
      transports: response.getTransports?.() ?? [],
    },
  };
}

async function used(options, how = {}) {
  const publicKey = {
    ...options,
    challenge: bytes(options.challenge),
    allowCredentials: described(options.allowCredentials),
  };
  const { id, rawId, type, response } = await navigator.credentials.get({ publicKey, ...how });
  return {
    id,
    rawId: text(rawId),
    type,
    response: {
      clientDataJSON: text(response.clientDataJSON),
      authenticatorData: text(response.authenticatorData),
      signature: text(response.signature),
      userHandle: response.userHandle ? text(response.userHandle) : null,
    },
  };
}

async function finish(form, credential) {
  const fields = { credential };
  for (const name of ["name", "next"]) if (form.elements[name]) fields[name] = form.elements[name].value;
  const answer = await post(form, form.dataset.answer, fields);
  location.assign(answer.location);
}

function tell(form, error) {
  const problem = form.querySelector("[data-problem]");
  problem.textContent = SAID[error.name] ?? error.message;
  problem.hidden = false;
}

async function submit(form) {
  const button = form.querySelector("button[type=submit]");
  form.querySelector("[data-problem]").hidden = true;
  button.disabled = true;
  asking = true; // a browser asks for one passkey at a time
  await stopOffering();
  try {
    const options = await post(form, form.dataset.options);
    await finish(form, form.dataset.passkey === "add" ? await made(options) : await used(options));
  } catch (error) {
    tell(form, error);
    button.disabled = false;
    button.focus();
    asking = false;
    if (form.matches(OFFERED)) offer(form);
  }
}

// In the address field the browser lists passkeys beside addresses (conditional mediation), without a click on the button.
const OFFERED = "form[data-passkey-in-field]";
const RENEW_SECONDS = 240; // before what the server asked for is too old
let offering = null; // { abort: AbortController, done: Promise }
let asking = false; // after a click on a button, until the answer

async function stopOffering() {
  const before = offering;
  offering = null;
  before?.abort.abort();
  await before?.done;
}

async function offer(form) {
  await stopOffering();
  if (asking) return;
  const abort = new AbortController();
  const mine = { abort, done: null };
  offering = mine;
  mine.done = (async () => {
    const options = await post(form, form.dataset.options);
    if (abort.signal.aborted) return null;
    return used(options, { mediation: "conditional", signal: abort.signal });
  })().catch(() => null); // given up by us, or nothing was picked: no word about it
  const credential = await mine.done;
  if (!credential || abort.signal.aborted) return;
  offering = null;
  await finish(form, credential).catch((error) => tell(form, error));
}

async function startOffering() {
  const form = document.querySelector(OFFERED);
  if (!form || !(await PublicKeyCredential.isConditionalMediationAvailable?.())) return;
  offer(form);
  setInterval(() => document.hidden || (offering && offer(form)), RENEW_SECONDS * 1000);
  // Another tab may have asked meanwhile, and the server remembers what it asked a browser last.
  document.addEventListener("visibilitychange", () => document.hidden || offer(form));
}

export function startPasskeys() {
  const possible = window.isSecureContext && "credentials" in navigator && "PublicKeyCredential" in window;
  const show = (root) => {
    for (const form of root.querySelectorAll("form[data-passkey]")) form.hidden = !possible;
    for (const note of root.querySelectorAll("[data-passkey-missing]")) note.hidden = possible;
  };
  show(document);
  document.addEventListener("launchpad:replaced", (event) => show(event.detail));
  if (possible) startOffering();
  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form[data-passkey]");
    if (!form) return;
    event.preventDefault();
    submit(form);
  });
}
