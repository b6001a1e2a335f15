// Runs before the first paint, so that a chosen colour scheme does not flash. Everything else is in app.js.
document.documentElement.classList.add("js");
try {
  const theme = localStorage.getItem("launchpad-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is switched off: the system's scheme stays.
}
