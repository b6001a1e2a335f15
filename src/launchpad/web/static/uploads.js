// Uploads in pieces: with progress, to be paused, continued by themselves after a broken connection, and after a reload
// of the page when the same file is chosen again. The server knows how far each one is; nothing is asked of the browser
// but, where it can, when the file was last changed.
import { renewTokens } from "./csrf.js";
import { announce, refresh } from "./regions.js";

const PIECE = 16 * 1024 * 1024;
const AT_ONCE = 2;
const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;
const SLOW_MS = 120_000; // without a byte on the way
const KEY = "launchpad-uploads"; // of what is not whole: id → when the file was last changed

const SIGNED_OUT = "You are signed out. Sign in in another tab, then retry.";

const uploads = [];
let forAll = ""; // what was chosen for all names that are taken

const section = () => document.getElementById("uploads");
const token = () => document.querySelector("input[name=csrf_token]").value;

function describeBytes(count) {
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  const at = count < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(count) / 10));
  return `${(count / 1024 ** at).toFixed(1).replace(/\.0$/, "")} ${units[at]}`;
}

// As `encoded` of domain/file_paths.py: `path` of an answer is put together with it.
const encoded = (name) => encodeURIComponent(name).replace(/%(40|3A|24|2C|3B)/g, (_, code) => String.fromCharCode(parseInt(code, 16)));
const joined = (folder, name) => (folder ? `${folder}/${name}` : name);
const readable = (path) => {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
};

function noted() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}");
  } catch {
    return {};
  }
}

function note(id, modified) {
  const all = noted();
  if (modified === null) delete all[id];
  else all[id] = modified;
  try {
    localStorage.setItem(KEY, JSON.stringify(all));
  } catch {
    // Without it, name and size tell whether it is the same file.
  }
}

class Refused extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}
class Lost extends Error {}

async function call(method, path, body, tries = 2) {
  let response;
  try {
    response = await fetch(`/api/v1/home${path}`, {
      method,
      headers: { Accept: "application/json", "X-CSRF-Token": token(), ...(body ? { "Content-Type": "application/json" } : {}) },
      body: body && JSON.stringify(body),
    });
  } catch {
    throw new Lost();
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  if (response.status === 401) throw new Refused(401, "not-signed-in", SIGNED_OUT);
  const problem = await response.json().catch(() => ({}));
  if (response.status === 403 && problem.code === "forbidden" && tries > 1 && (await renewTokens())) return call(method, path, body, tries - 1);
  if ([429, 502, 503, 504].includes(response.status)) throw new Lost();
  throw new Refused(response.status, problem.code, problem.detail ?? "That did not work. Please try again.");
}

// One piece; fetch cannot tell how far it is.
function sendPiece(upload, blob) {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    let quiet = setTimeout(() => request.abort(), SLOW_MS);
    upload.request = request;
    request.open("PATCH", `/api/v1/home/uploads/${upload.id}`);
    request.setRequestHeader("X-CSRF-Token", token());
    request.setRequestHeader("Upload-Offset", String(upload.offset));
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.addEventListener("progress", (event) => {
      clearTimeout(quiet);
      quiet = setTimeout(() => request.abort(), SLOW_MS);
      upload.sent = upload.offset + event.loaded;
      draw(upload);
    });
    request.addEventListener("loadend", () => {
      clearTimeout(quiet);
      upload.request = null;
      if (request.status === 204) {
        upload.offset = Number(request.getResponseHeader("Upload-Offset"));
        return done(request.getResponseHeader("Upload-Complete") === "?1");
      }
      // 409: it is elsewhere than we think, as after a piece whose answer was lost.
      if ([0, 408, 409, 429, 502, 503, 504].includes(request.status)) return failed(new Lost());
      let problem = {};
      try {
        problem = JSON.parse(request.responseText);
      } catch {
        // No problem of ours; the status says it.
      }
      if (request.status === 401) problem.detail = SIGNED_OUT;
      if (request.status === 403) return renewTokens().then((renewed) => failed(renewed ? new Lost() : new Refused(403, "", problem.detail)));
      return failed(new Refused(request.status, problem.code, problem.detail ?? "That did not work. Please try again."));
    });
    request.send(blob);
  });
}

const paused = (upload) => upload.state === "paused" || upload.state === "removed";

async function begin(upload) {
  const body = {
    path: upload.path,
    encoded: true,
    size_bytes: upload.file.size,
    modified_at: new Date(upload.file.lastModified).toISOString(),
    replace: upload.replace,
  };
  const made = await call("POST", "/uploads", body);
  upload.id = made.id;
  upload.offset = upload.sent = made.offset;
  if (!made.done) note(made.id, upload.file.lastModified);
  return made.done;
}

async function carry(upload) {
  if (upload.folders) await makeFolders(upload.folders);
  upload.folders = null;
  let whole = false;
  if (upload.id) {
    try {
      upload.offset = upload.sent = (await call("GET", `/uploads/${upload.id}`)).offset;
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 404) throw error;
      if (upload.offset + PIECE >= upload.file.size && (await isThere(upload))) whole = true; // its last answer was lost
      else upload.id = null;
    }
  }
  if (!upload.id) whole = await begin(upload);
  while (!whole) {
    if (paused(upload)) return;
    whole = await sendPiece(upload, upload.file.slice(upload.offset, upload.offset + PIECE));
    upload.wait = FIRST_WAIT_MS;
    draw(upload);
  }
  note(upload.id, null);
  become(upload, "done");
}

async function isThere(upload) {
  const name = upload.path.split("/").pop();
  const query = `name=${encodeURIComponent(readable(name).replace(/[*?]/g, "?"))}`;
  const folder = upload.path.slice(0, -name.length - 1);
  const found = await call("GET", `/search?path=${folder}&${query}`);
  return found.entries.some((one) => one.path === upload.path && one.size_bytes === upload.file.size);
}

async function makeFolders(folders) {
  for (const path of folders) {
    try {
      await call("POST", "/folders", { path, encoded: true });
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 409) throw error;
    }
  }
}

async function run(upload) {
  become(upload, "sending");
  try {
    await carry(upload);
  } catch (error) {
    if (paused(upload)) return next();
    if (error instanceof Lost) {
      become(upload, "lost");
      upload.timer = setTimeout(() => again(upload), upload.wait);
      upload.wait = Math.min(LONGEST_WAIT_MS, upload.wait * 2);
    } else if (error instanceof Refused) {
      upload.problem = error.message;
      const taken = error.status === 409 && !upload.id;
      become(upload, taken ? "taken" : "failed");
      if (taken && forAll) decide(upload, forAll);
    } else {
      upload.problem = "The file could not be read. Was it changed, moved or deleted?";
      become(upload, "failed");
    }
  }
  return next();
}

function again(upload) {
  clearTimeout(upload.timer);
  if (upload.state !== "sending" && upload.state !== "removed") become(upload, "waiting");
  next();
}

function next() {
  const busy = uploads.filter((one) => one.state === "sending").length;
  for (const upload of uploads.filter((one) => one.state === "waiting").slice(0, Math.max(0, AT_ONCE - busy))) run(upload);
}

function pause(upload) {
  become(upload, "paused");
  clearTimeout(upload.timer);
  upload.request?.abort();
  next();
}

async function remove(upload) {
  const { id, state } = upload;
  become(upload, "removed");
  clearTimeout(upload.timer);
  upload.request?.abort();
  uploads.splice(uploads.indexOf(upload), 1);
  upload.line.remove();
  section().hidden = uploads.length === 0;
  if (id && state !== "done") {
    note(id, null);
    await call("DELETE", `/uploads/${id}`).catch(() => null); // what is left of it is removed after a week
  }
  next();
}

// "replace", "both" or "skip".
function decide(upload, choice) {
  if (choice === "skip") return remove(upload);
  if (choice === "replace") upload.replace = true;
  else {
    upload.number = (upload.number ?? 1) + 1;
    const name = upload.file.name;
    const dot = name.lastIndexOf(".");
    const stem = dot > 0 ? name.slice(0, dot) : name;
    upload.path = joined(upload.folder, encoded(`${stem} (${upload.number})${dot > 0 ? name.slice(dot) : ""}`));
  }
  return again(upload);
}

// -- how it looks ------------------------------------------------------------------------------------------------------

const SAID = {
  waiting: () => "Waiting for other uploads",
  sending: (it) => `${describeBytes(it.sent)} of ${describeBytes(it.size)}${it.speed ? ` · ${describeBytes(it.speed)} per second` : ""}`,
  lost: (it) => `Connection lost at ${describeBytes(it.offset)}. It continues as soon as the server responds.`,
  paused: (it) => `Paused at ${describeBytes(it.offset)} of ${describeBytes(it.size)}`,
  taken: () => "There is already something with this name.",
  failed: (it) => it.problem,
  left: (it) => `Interrupted at ${describeBytes(it.offset)} of ${describeBytes(it.size)}. Choose the same file again to continue.`,
  done: (it) => `Uploaded, ${describeBytes(it.size)}`,
};

function button(text, name, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "small";
  made.textContent = text;
  const about = document.createElement("span");
  about.className = "visually-hidden";
  about.textContent = ` ${name}`;
  made.append(about);
  made.addEventListener("click", act);
  return made;
}

function buttonsOf(upload) {
  const name = upload.name;
  const drop = button(upload.state === "done" ? "Hide" : "Cancel", name, () => remove(upload));
  const all = (choice) => {
    if (section().querySelector("[data-for-all]")?.checked) forAll = choice;
    const same = forAll ? uploads.filter((one) => one.state === "taken") : [upload];
    for (const one of same) decide(one, choice);
  };
  switch (upload.state) {
    case "sending":
    case "waiting":
      return [button("Pause", name, () => pause(upload)), drop];
    case "paused":
      return [button("Continue", name, () => again(upload)), drop];
    case "lost":
      return [button("Retry now", name, () => again(upload)), button("Pause", name, () => pause(upload)), drop];
    case "failed":
      return [button("Retry", name, () => again(upload)), drop];
    case "left":
      return [button("Choose file", name, () => chooseAgain(upload)), drop];
    case "taken": {
      const choices = [button("Keep both", name, () => all("both")), button("Replace", name, () => all("replace")), button("Skip", name, () => all("skip"))];
      if (uploads.filter((one) => ["waiting", "taken", "sending"].includes(one.state)).length < 2) return choices;
      const label = document.createElement("label");
      label.className = "check";
      const box = document.createElement("input");
      box.type = "checkbox";
      box.dataset.forAll = "";
      label.append(box, "For all");
      return [...choices, label];
    }
    default:
      return [drop];
  }
}

function become(upload, state) {
  if (upload.state === "removed") return;
  const before = upload.state;
  upload.state = state;
  upload.since = null;
  upload.speed = 0;
  if (before === state) return draw(upload);
  const hadFocus = upload.line.contains(document.activeElement);
  upload.line.dataset.state = state;
  upload.actions.replaceChildren(...buttonsOf(upload));
  if (hadFocus) upload.actions.querySelector("button")?.focus();
  draw(upload);
  if (["lost", "failed", "taken", "done"].includes(state)) announce(`${upload.name}: ${SAID[state](upload)}`);
  if (state === "done") refresh();
}

function draw(upload) {
  const now = performance.now();
  if (upload.state === "sending" && upload.sent > upload.offset - PIECE) {
    upload.since ??= { at: now, sent: upload.sent };
    if (now - upload.since.at > 2_000) upload.speed = ((upload.sent - upload.since.sent) * 1000) / (now - upload.since.at);
  }
  const said = SAID[upload.state]?.(upload) ?? "";
  if (upload.said.textContent !== said) upload.said.textContent = said;
  upload.bar.hidden = ["taken", "failed"].includes(upload.state);
  upload.bar.max = upload.size || 1;
  upload.bar.value = upload.state === "done" ? upload.size || 1 : Math.max(upload.sent, upload.offset);
}

function list(upload) {
  const line = document.createElement("li");
  line.className = "upload";
  const name = document.createElement("bdi");
  name.className = "upload-name name";
  name.textContent = upload.name;
  upload.said = document.createElement("span");
  upload.said.className = "upload-said";
  upload.bar = document.createElement("progress");
  upload.bar.setAttribute("aria-label", `Upload of ${upload.name}`);
  upload.actions = document.createElement("div");
  upload.actions.className = "actions";
  line.append(name, upload.said, upload.actions, upload.bar);
  upload.line = line;
  uploads.push(upload);
  document.getElementById("uploads-list").append(line);
  section().hidden = false;
}

// -- what is uploaded --------------------------------------------------------------------------------------------------

// Args: folder: percent-encoded. folders: those to be made first.
function add(file, folder, folders = null) {
  const path = joined(folder, encoded(file.name));
  const left = uploads.find((one) => one.state === "left" && one.path === path && isSame(one, file));
  if (left) return resume(left, file);
  const upload = { file, folder, folders, path, name: file.name, size: file.size, id: null, offset: 0, sent: 0, replace: false, wait: FIRST_WAIT_MS, state: "" };
  list(upload);
  become(upload, "waiting");
  return next();
}

function isSame(upload, file) {
  const modified = noted()[upload.id];
  return upload.size === file.size && (modified === undefined || modified === file.lastModified);
}

function resume(upload, file) {
  upload.file = file;
  again(upload);
}

function chooseAgain(upload) {
  const field = document.createElement("input");
  field.type = "file";
  field.addEventListener("change", () => {
    const [file] = field.files;
    if (!file) return;
    if (isSame(upload, file) && upload.path.split("/").pop() === encoded(file.name)) return resume(upload, file);
    const text = `${file.name} is not the file that this upload began with: its name, size or time of change differ.`;
    upload.said.textContent = text;
    announce(text);
  });
  field.click();
}

async function listLeft(wait = FIRST_WAIT_MS) {
  let found = null;
  try {
    found = await call("GET", "/uploads");
  } catch (error) {
    // Busy or away, as while the request before this page still ends.
    if (error instanceof Lost && wait <= LONGEST_WAIT_MS) setTimeout(listLeft, wait, wait * 2);
    return;
  }
  for (const { id, path, offset, size_bytes: size } of found.uploads) {
    if (uploads.some((one) => one.id === id)) continue;
    const name = readable(path);
    const upload = { file: null, folder: path.split("/").slice(0, -1).join("/"), folders: null, path, name, size, id, offset, sent: offset, replace: false, wait: FIRST_WAIT_MS, state: "" };
    list(upload);
    become(upload, "left");
  }
}

// What was dropped: files, and folders with what lies in them.
async function dropped(entries, folder, made = []) {
  for (const entry of entries) {
    if (entry.isFile) add(await new Promise((done, failed) => entry.file(done, failed)), folder, made.length ? made : null);
    else {
      const inside = joined(folder, encoded(entry.name));
      const reader = entry.createReader();
      const found = [];
      for (;;) {
        const some = await new Promise((done, failed) => reader.readEntries(done, failed));
        if (!some.length) break;
        found.push(...some);
      }
      if (found.length) await dropped(found, inside, [...made, inside]);
      else await makeFolders([...made, inside]).then(refresh, () => null);
    }
  }
}

function startDropping(folder) {
  let depth = 0;
  const hint = document.createElement("p");
  hint.className = "files-drop";
  hint.textContent = "Drop to upload";
  const isFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const show = (on) => {
    document.body.classList.toggle("dropping", on);
    if (on) document.body.append(hint);
    else hint.remove();
  };
  document.addEventListener("dragenter", (event) => isFiles(event) && ++depth === 1 && show(true));
  document.addEventListener("dragleave", (event) => isFiles(event) && --depth <= 0 && (depth = 0, show(false)));
  document.addEventListener("dragover", (event) => isFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!isFiles(event)) return;
    event.preventDefault();
    depth = 0;
    show(false);
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (entries.length) dropped(entries, folder).catch(() => announce("What was dropped could not be read."));
    else for (const file of event.dataTransfer.files) add(file, folder);
  });
}

export function startUploads() {
  if (!section()) return;
  const folder = section().dataset.path;
  const form = document.querySelector("form[data-upload]");
  document.querySelector("#upload-taken option").textContent = "Ask";
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const field = document.getElementById("upload-file");
    if (!field.files.length) return;
    forAll = { both: "both", replace: "replace" }[document.getElementById("upload-taken").value] ?? "";
    for (const file of field.files) add(file, folder);
    form.reset();
    form.closest("dialog").close();
  });
  startDropping(folder);
  addEventListener("online", () => uploads.filter((one) => one.state === "lost").forEach(again));
  addEventListener("beforeunload", (event) => {
    if (uploads.some((one) => ["sending", "waiting", "lost", "paused"].includes(one.state))) event.preventDefault();
  });
  listLeft();
}
