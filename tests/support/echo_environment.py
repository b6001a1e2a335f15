"""A small environment of one's own: it tells what it was sent, and its page asks for something now and then."""

from __future__ import annotations

from typing import Any

from .live import built_image

APPLICATION = """
import http.server, json, os
PAGE = b'''<!doctype html><title>Echo</title><p id="state">starting</p><script>
const state = document.getElementById("state");
async function ask() {
  try {
    const answer = await fetch("poll", { method: "POST" });
    state.textContent = answer.ok ? "connected" : "lost the connection: " + answer.status;
  } catch { state.textContent = "lost the connection"; }
  setTimeout(ask, state.textContent === "connected" ? 500 : 5000);
}
ask();
</script>'''
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/page"):
            return self.answer(PAGE, "text/html")
        seen = {"path": self.path, "cookie": self.headers.get("Cookie", ""), "home": os.environ["HOME"]}
        self.answer(json.dumps(seen).encode(), "application/json")
    def do_POST(self):
        self.answer(b"{}", "application/json")
    def answer(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for cookie in self.headers.get_all("X-Set", []):
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 9000), Handler).serve_forever()
"""


def echo_environment(**changed: Any) -> dict[str, Any]:
    """Its table for the settings; `/page` is its page, and everything else answers what it was asked."""
    return {
        "name": "echo",
        "title": "Echo",
        "image": built_image("jupyterlab"),  # not one that a test made FROM it and removes
        "port": 9000,
        "home": "/home/echo",
        "prefix": "strip",
        "health_path": "/ready",
        "start_path": "/page",
        "user": "{uid}:{uid}",
        "command": ["python3", "-c", APPLICATION],
        "env_vars": {"HOME": "/home/echo"},
        **changed,
    }
