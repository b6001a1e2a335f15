// Passkeys: the browser and the device do the work, the server says what is to be signed and checks it.

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

async function post(form, url, body) {
  const headers = { "Content-Type": "application/json", Accept: "application/json" };
  const token = form.elements.csrf_token?.value;
  if (token) headers["X-CSRF-Token"] = token;
  const response = await fetch(url, { method: "POST", headers, body: body ? JSON.stringify(body) : undefined });
  const answer = await response.json().catch(() => ({}));
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

async function used(options) {
  const publicKey = {
    ...options,
    challenge: bytes(options.challenge),
    allowCredentials: described(options.allowCredentials),
  };
  const { id, rawId, type, response } = await navigator.credentials.get({ publicKey });
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

async function submit(form) {
  const problem = form.querySelector("[data-problem]");
  const button = form.querySelector("button[type=submit]");
  problem.hidden = true;
  button.disabled = true;
  try {
    const options = await post(form, form.dataset.options);
    const credential = form.dataset.passkey === "add" ? await made(options) : await used(options);
    const fields = { credential };
    for (const name of ["name", "next"]) if (form.elements[name]) fields[name] = form.elements[name].value;
    const answer = await post(form, form.dataset.answer, fields);
    location.assign(answer.location);
  } catch (error) {
    problem.textContent = SAID[error.name] ?? error.message;
    problem.hidden = false;
    button.disabled = false;
    button.focus();
  }
}

export function startPasskeys() {
  const possible = window.isSecureContext && "credentials" in navigator && "PublicKeyCredential" in window;
  for (const form of document.querySelectorAll("form[data-passkey]")) form.hidden = !possible;
  for (const note of document.querySelectorAll("[data-passkey-missing]")) note.hidden = possible;
  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form[data-passkey]");
    if (!form) return;
    event.preventDefault();
    submit(form);
  });
}
