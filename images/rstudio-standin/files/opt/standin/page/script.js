// Addresses are relative, so that the page works below whatever prefix the proxy took off.
"use strict";
const byId = (id) => document.getElementById(id);
let token = null;
let last = 0;

async function call(method, params = [], headers = {}) {
  const answer = await fetch(`rpc/${method}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...(token ? { "X-RS-CSRF-Token": token } : {}), ...headers },
    body: JSON.stringify({ params }),
  });
  if (!answer.ok) throw new Error(`${method}: ${answer.status}`);
  return (await answer.json()).result;
}

// The cookie with the token is out of a script's reach, so the server's page hands it over here.
async function readToken() {
  const answer = await fetch("token");
  token = (await answer.json()).token;
}

function show(element, text) {
  element.textContent += text;
  element.scrollTop = element.scrollHeight;
}

async function refresh() {
  const list = (id, names) => byId(id).replaceChildren(...names);
  const item = (node) => { const li = document.createElement("li"); li.append(node); return li; };
  list("environment", (await call("list_environment")).map((name) => item(name)));
  list("files", (await call("list_files")).map((file) => {
    if (file.folder) return item(`${file.name}/`);
    const link = document.createElement("a");
    link.href = `files/${encodeURIComponent(file.name)}`;
    link.download = file.name;
    link.textContent = `${file.name} (${file.size} bytes)`;
    return item(link);
  }));
}

async function follow() {
  for (;;) {
    try {
      for (const event of await call("get_events", [last])) {
        last = event.id;
        if (event.type === "console_input") show(byId("console-output"), `> ${event.data}\n`);
        if (event.type === "console_output") show(byId("console-output"), event.data);
        if (event.type === "console_prompt") { show(byId("console-output"), "\n"); await refresh(); }
      }
    } catch {
      await new Promise((done) => setTimeout(done, 2000));
    }
  }
}

function connect() {
  const base = new URL("p/0/", location.href);
  base.protocol = base.protocol.replace("http", "ws");
  const echo = new WebSocket(new URL("echo/", base));
  echo.onopen = () => echo.send("hello");
  echo.onmessage = () => { byId("ws-status").textContent = "connected"; };
  echo.onclose = () => { byId("ws-status").textContent = "closed"; };
  const terminal = new WebSocket(new URL("terminal/1/", base));
  // eslint-disable-next-line no-control-regex
  terminal.onmessage = (message) => show(byId("terminal-output"), message.data.replace(/\x1b\[[0-9;?]*[a-zA-Z]/g, "").replace(/\r/g, ""));
  byId("terminal").addEventListener("submit", (event) => {
    event.preventDefault();
    terminal.send(`${byId("terminal-input").value}\n`);
    byId("terminal-input").value = "";
  });
}

byId("console-input").addEventListener("keydown", async (event) => {
  if (event.key !== "Enter" || event.shiftKey) return;
  event.preventDefault();
  const code = event.target.value;
  event.target.value = "";
  await call("console_input", [code]);
});
byId("interrupt").addEventListener("click", () => call("interrupt"));
byId("upload").addEventListener("submit", async (event) => {
  event.preventDefault();
  await fetch("upload", { method: "POST", body: new FormData(event.target) });
  event.target.reset();
  await refresh();
});

async function start() {
  for (;;) {
    try {
      await readToken();
      await call("client_init");
      break;
    } catch {
      await new Promise((done) => setTimeout(done, 500)); // the session may still be starting
    }
  }
  connect();
  follow();
  // Until here nothing can be typed, so nothing that is typed gets lost.
  byId("console-input").disabled = false;
  byId("console-input").focus();
  await refresh();
}
start();
