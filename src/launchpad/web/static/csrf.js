// Every form holds a token of the login its page was loaded under. After a new sign-in, in another tab for example, the
// same user's tokens are renewed without a word; under somebody else's sign-in nothing is sent in their name.

export const STALE = "This page is from an earlier sign-in. Reload it and try again.";

// Whether the server refused since the page is from an earlier sign-in.
export function isStale(response) {
  return response.headers.get("X-Launchpad-Problem") === "stale-page";
}

// Puts the present login's token into all forms of the page; false when that is not possible.
export async function renewTokens() {
  try {
    const response = await fetch("/api/v1/me", { headers: { Accept: "application/json" } });
    if (!response.ok) return false;
    const me = await response.json();
    const fields = [...document.querySelectorAll("input[name=csrf_token]")];
    if (!me.csrf_token || fields.some((field) => field.dataset.user !== me.id)) return false;
    for (const field of fields) field.value = me.csrf_token;
    return fields.length > 0;
  } catch {
    return false;
  }
}
