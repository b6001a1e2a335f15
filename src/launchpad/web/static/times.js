// Moments in words, kept true while the page is open, and exact ones in the reader's own time zone.
const MINUTE = 60;
const HOUR = 3600;
const DAY = 86400;
const exactly = new Intl.DateTimeFormat("en-GB", {
  weekday: "long", day: "numeric", month: "long", year: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
});

const shortly = new Intl.DateTimeFormat("en-GB", {
  weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit",
});

// "Sat 28 Nov, 15:07": the formatter's own order, with one comma.
function inShort(moment) {
  const part = Object.fromEntries(shortly.formatToParts(moment).map(({ type, value }) => [type, value]));
  return `${part.weekday} ${part.day} ${part.month}, ${part.hour}:${part.minute}`;
}

function plural(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

// The two largest units, as words.py says them.
export function spanInWords(seconds) {
  if (seconds < MINUTE) return "less than a minute";
  if (seconds < HOUR) return `${Math.floor(seconds / MINUTE)} min`;
  if (seconds < DAY) {
    const minutes = Math.floor((seconds % HOUR) / MINUTE);
    return `${Math.floor(seconds / HOUR)} h${minutes ? ` ${minutes} min` : ""}`;
  }
  const hours = Math.floor((seconds % DAY) / HOUR);
  return plural(Math.floor(seconds / DAY), "day") + (hours ? ` ${hours} h` : "");
}

function agoInWords(seconds) {
  if (seconds < MINUTE) return "just now";
  const unit = seconds < HOUR ? MINUTE : seconds < DAY ? HOUR : DAY;
  return `${spanInWords(Math.floor(seconds / unit) * unit)} ago`;
}

export function tellTimes(root = document) {
  const now = Date.now();
  for (const element of root.querySelectorAll("time[data-time]")) {
    const moment = Date.parse(element.dateTime);
    if (Number.isNaN(moment)) continue;
    const kind = element.dataset.time;
    const left = Math.floor((moment - now) / 1000);
    const text =
      kind === "exact" ? exactly.format(moment)
      : kind === "short" ? inShort(moment)
      : kind === "ago" ? agoInWords(-left)
      : left <= 0 ? "time is up" : `${spanInWords(left)} left`;
    if (element.textContent !== text) element.textContent = text;
  }
  for (const button of root.querySelectorAll("button[data-wait-seconds]")) {
    const wait = Math.ceil(Number(button.dataset.waitSeconds) - performance.now() / 1000); // since the page was loaded
    const label = (button.dataset.label ??= button.lastChild.textContent);
    button.disabled = wait > 0;
    button.lastChild.textContent = wait > 0 ? `${label} in ${wait} s` : label;
  }
}

export function startTimes() {
  tellTimes();
  const fast = document.querySelector("button[data-wait-seconds]") !== null;
  setInterval(() => document.hidden || tellTimes(), fast ? 1000 : 20_000);
  document.addEventListener("visibilitychange", () => document.hidden || tellTimes());
}
