// Moments in words, kept true while the page is open, and exact ones in the reader's own time zone.
const MINUTE = 60;
const HOUR = 3600;
const DAY = 86400;
// The user's own setting, else the browser's.
const set = document.documentElement.dataset.timeZone;
const timeZone = set && set !== "ask" ? set : undefined;

const exactly = new Intl.DateTimeFormat("en-GB", {
  weekday: "long", day: "numeric", month: "long", year: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
  timeZone,
});

const shortly = new Intl.DateTimeFormat("en-GB", {
  weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZone,
});

// "Sat 28 Nov, 15:07": the formatter's own order, with one comma.
function inShort(moment) {
  const part = Object.fromEntries(shortly.formatToParts(moment).map(({ type, value }) => [type, value]));
  return `${part.weekday} ${part.day} ${part.month}, ${part.hour}:${part.minute}`;
}

const datedly = new Intl.DateTimeFormat("en-GB", {
  day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", timeZone,
});

// "28 Nov 2026, 15:07", as words.py says it: September has three letters.
function inDates(moment) {
  const part = Object.fromEntries(datedly.formatToParts(moment).map(({ type, value }) => [type, value]));
  return `${part.day} ${part.month.slice(0, 3)} ${part.year}, ${part.hour}:${part.minute}`;
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
      : kind === "dated" ? inDates(moment)
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

let asked = "";

// In the last hour of an instance the tab says so, also while nothing new comes from the server.
function tellEnd() {
  const now = Date.now();
  const cards = [...document.querySelectorAll("[data-live][data-state=running][data-expires]")];
  const left = (card) => Math.floor((Date.parse(card.dataset.expires) - now) / 1000);
  const [first] = cards.filter((card) => left(card) < HOUR).sort((a, b) => left(a) - left(b));
  if (!first) return;
  const [, ...rest] = document.title.split(" · ");
  const words = left(first) <= 0 ? "time is up" : `${spanInWords(left(first))} left`;
  document.title = [`${first.dataset.title} ends: ${words}`, ...rest].join(" · ");
  const key = `${first.dataset.instance} ${first.dataset.expires}`;
  if (asked === key || first.querySelector("[data-ends-soon]")) return;
  asked = key; // the server draws the warning
  document.dispatchEvent(new Event("launchpad:ends-soon"));
}

export function startTimes() {
  tellTimes();
  const fast = document.querySelector("button[data-wait-seconds]") !== null;
  setInterval(() => document.hidden || tellTimes(), fast ? 1000 : 20_000);
  tellEnd();
  setInterval(tellEnd, 20_000); // a tab in the background is where the title counts
  document.addEventListener("visibilitychange", () => document.hidden || tellTimes());
}
