// Modal dialogs: the browser opens them (`command="show-modal"`), keeps the rest out of reach and gives the focus back.
// Here, what is missing: browsers without commands, and a Tab key that stays inside.

const FOCUSABLE = "a[href], button, input:not([type=hidden]), select, textarea";

function inTabOrder(dialog) {
  return [...dialog.querySelectorAll(FOCUSABLE)].filter((it) => {
    if (it.disabled || it.tabIndex < 0 || !it.checkVisibility()) return false;
    if (it.type !== "radio") return true;
    const group = [...dialog.querySelectorAll(`input[type=radio][name="${it.name}"]`)];
    return it.checked || (!group.some((one) => one.checked) && it === group[0]);
  });
}

function onTab(event) {
  const dialog = event.key === "Tab" && document.querySelector("dialog:modal");
  if (!dialog) return;
  const stops = inTabOrder(dialog);
  const at = stops.indexOf(document.activeElement);
  const next = event.shiftKey ? (at <= 0 ? stops.length - 1 : -1) : at === stops.length - 1 || at < 0 ? 0 : -1;
  if (next < 0) return; // the browser knows the way between first and last
  event.preventDefault();
  stops[next]?.focus();
}

export function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  for (const open of document.querySelectorAll(":popover-open")) open.hidePopover();
}

export function startDialogs() {
  document.addEventListener("keydown", onTab);
  const hasCommands = "commandForElement" in HTMLButtonElement.prototype;
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button[commandfor]");
    if (button && !hasCommands) {
      const dialog = document.getElementById(button.getAttribute("commandfor"));
      if (button.getAttribute("command") === "close") dialog.close();
      else dialog.showModal();
    }
    // A click beside it: its target is the dialog itself, whose content fills it.
    const dialog = event.target.matches?.("dialog:modal") ? event.target : null;
    if (!dialog || "closedBy" in HTMLDialogElement.prototype) return;
    const box = dialog.getBoundingClientRect();
    const isInside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
    if (!isInside) dialog.close();
  });
}
