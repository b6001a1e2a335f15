// What the IDE's page does with the answers of calls, without its windows. Addresses are relative, so that the page works
// below whatever prefix the proxy took off.
"use strict";
const byId = (id) => document.getElementById(id);
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const UNAVAILABLE = 2, UNAUTHORIZED = 3, INVALID_CLIENT = 4; // numbers of errors
const SUSPENDED = 3; // session_serialization
const AGAIN_MILLISECONDS = 500; // after events that failed
let token = null;
let client = "";
let last = -1;
let state = "starting"; // then "listening", "suspended" or "over": whether events are asked for

class CallError extends Error {
  constructor(code, message) { super(message); this.code = code; }
}

async function call(method, params = [], background = false) {
  const answer = await fetch(`rpc/${method}`, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      Accept: "application/json",
      ...(token ? { "X-RS-CSRF-Token": token } : {}),
      ...(background ? { "X-RStudio-Refresh-Auth-Creds": "0" } : {}),
    },
    body: JSON.stringify({ method, params, clientId: client, clientVersion: "" }),
  });
  if (answer.status === 401) return unauthorized();
  if (!answer.ok) throw new CallError(0, `Status code ${answer.status} returned by RStudio Server when executing '${method}'`);
  const { result, error } = await answer.json();
  if (error === undefined) return result;
  if (error.code === UNAUTHORIZED) return unauthorized();
  if (error.code === INVALID_CLIENT) return disconnected();
  throw new CallError(error.code, `${error.message} (${method})`);
}

// Calls of the person: an error is shown, and a session that sleeps is awake afterwards.
async function act(method, params = []) {
  try {
    const result = await call(method, params);
    if (state === "suspended") listen();
    return result;
  } catch (error) {
    show(byId("console-output"), `Error: ${error.message}\n`);
    throw error;
  }
}

function end(title, text, button, way) {
  state = "over";
  byId("dialog-title").textContent = title;
  byId("dialog-text").textContent = text;
  byId("dialog-button").textContent = button;
  byId("dialog").addEventListener("close", way, { once: true });
  if (!byId("dialog").open) byId("dialog").showModal();
  return new Promise(() => {}); // nobody goes on
}
const reload = () => location.reload();
const unauthorized = () => end("Log in", "Your log-in has ended.", "Log in", () => { location.href = "auth-sign-in?appUri=%2F"; });
const disconnected = () => end("R Session Disconnected", "This browser was disconnected from the R session because another browser connected (only one browser at a time may be connected to an RStudio session). You may reconnect using the button below.", "Reconnect", reload);
const sessionEnded = () => end("R Session Ended", "The current R session has ended.", "Start New Session", reload);

// The cookie with the token is out of a script's reach, so the server's page hands it over here.
async function readToken() {
  const answer = await fetch("token");
  if (answer.status === 401) return unauthorized();
  token = (await answer.json()).token;
}

function show(element, text) {
  element.textContent += text;
  element.scrollTop = element.scrollHeight;
}

async function refresh() {
  const list = (id, names) => byId(id).replaceChildren(...names);
  const item = (node) => { const li = document.createElement("li"); li.append(node); return li; };
  list("environment", (await call("list_environment")).map((one) => item(one.name)));
  list("files", (await call("list_files", ["~", false, false])).files.map((file) => {
    const name = file.path.slice(2);
    if (file.dir) return item(`${name}/`);
    const link = document.createElement("a");
    link.href = `files/${encodeURIComponent(name)}`;
    link.download = name;
    link.textContent = `${name} (${file.length} bytes)`;
    return item(link);
  }));
}

async function happened(event) {
  last = event.id;
  if (["console_write_prompt", "console_write_input", "console_output", "console_error"].includes(event.type)) show(byId("console-output"), event.data.text);
  if (event.type === "console_prompt") refresh().catch(() => {});
  if (event.type === "session_serialization" && event.data.action === SUSPENDED) state = "suspended";
  if (event.type === "quit") sessionEnded();
}

// Events are asked for again and again; what fails is asked for again after a moment, for ever.
async function listen() {
  state = "listening";
  while (state === "listening") {
    try {
      for (const event of await call("get_events", [last], true)) await happened(event);
    } catch (error) {
      // R was killed: the next call brings another one, and nobody is told.
      if (error.code === UNAVAILABLE && state === "listening") await call("ping").catch(() => {});
      await pause(AGAIN_MILLISECONDS);
    }
  }
}

async function openTerminal() {
  const made = await call("start_terminal");
  const url = new URL(`p/${made.channel_id}/terminal/${made.handle}/`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const terminal = new WebSocket(url);
  terminal.onopen = () => { byId("ws-status").textContent = "connected"; };
  terminal.onclose = () => { byId("ws-status").textContent = "closed"; };
  // eslint-disable-next-line no-control-regex
  terminal.onmessage = (message) => show(byId("terminal-output"), message.data.replace(/\x1b\[[0-9;?]*[a-zA-Z]/g, "").replace(/\r/g, ""));
  byId("terminal").onsubmit = (event) => {
    event.preventDefault();
    terminal.send(`${byId("terminal-input").value}\n`);
    byId("terminal-input").value = "";
  };
}

byId("console-input").addEventListener("keydown", async (event) => {
  if (event.key !== "Enter" || event.shiftKey) return;
  event.preventDefault();
  const code = event.target.value;
  event.target.value = "";
  await act("console_input", [code, "", 0]).catch(() => {});
});
byId("interrupt").addEventListener("click", () => act("interrupt").catch(() => {}));
byId("upload").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData();
  form.append("targetDirectory", "~");
  form.append("file", event.target.elements.file.files[0]);
  const answer = await fetch("upload", { method: "POST", body: form });
  const { result } = JSON.parse(await answer.text());
  await act("complete_upload", [result.token, true]);
  event.target.reset();
  await refresh();
});

async function start() {
  for (;;) {
    try {
      await readToken();
      client = (await call("client_init")).clientId;
      break;
    } catch {
      await pause(AGAIN_MILLISECONDS); // the session may still be starting
    }
  }
  listen();
  await openTerminal().catch(() => {});
  // Until here nothing can be typed, so nothing that is typed gets lost.
  byId("console-input").disabled = false;
  byId("console-input").focus();
  await refresh().catch(() => {});
}
start();
