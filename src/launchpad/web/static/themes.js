// The manual switch between automatic, light and dark; the choice is kept in this browser.
const KEY = "launchpad-theme";

export function startThemes() {
  const chooser = document.getElementById("themes");
  if (!chooser) return;
  const now = document.documentElement.dataset.theme ?? "auto";
  const input = chooser.querySelector(`input[value="${now}"]`);
  if (input) input.checked = true;
  chooser.addEventListener("change", (event) => {
    const theme = event.target.value;
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    try {
      if (theme === "auto") localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, theme);
    } catch {
      // Storage is switched off: the choice lasts for this page.
    }
  });
}
