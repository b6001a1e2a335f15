// A button that has to be held down by a hand. Mail scanners open links, run scripts and click on what they find; none
// of that sends this form: events made by scripts are not trusted, and a click is over at once.
const HOLD_MS = 1200;

function prepare(form) {
  const button = form.querySelector("[data-hold-button]");
  const other = form.querySelector("[data-hold-other]");
  let timer = null;

  function release() {
    clearTimeout(timer);
    timer = null;
    button.classList.remove("holding");
  }

  function done() {
    release();
    form.elements.held.value = form.dataset.hold;
    button.disabled = true;
    form.requestSubmit();
  }

  function press(event) {
    if (!event.isTrusted || timer !== null || document.hidden) return;
    button.classList.add("holding");
    timer = setTimeout(done, HOLD_MS);
  }

  button.addEventListener("pointerdown", (event) => event.button === 0 && press(event));
  for (const name of ["pointerup", "pointerleave", "pointercancel", "blur", "keyup"]) button.addEventListener(name, release);
  button.addEventListener("keydown", (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault(); // neither a click nor scrolling
    if (!event.repeat) press(event);
  });
  button.addEventListener("contextmenu", (event) => event.preventDefault()); // of a long touch
  document.addEventListener("visibilitychange", release);
  for (const part of form.querySelectorAll("[data-hold-button], [data-hold-hint]")) part.hidden = false;
  other.querySelector("button").addEventListener("click", () => (form.elements.held.value = ""));
}

export function startHold() {
  for (const form of document.querySelectorAll("form[data-hold]")) prepare(form);
}
