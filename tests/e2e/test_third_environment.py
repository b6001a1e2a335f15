"""Another web IDE is one table in the settings and no code."""

from __future__ import annotations

import json

from support.live import StartPlatform, built_image

# A small web application of the kind people bring along: it wants its prefix stripped, a header of its own, and speaks
# WebSocket's neighbour, a long answer in pieces.
APPLICATION = """
import http.server, json, os, pathlib
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        home = pathlib.Path(os.environ["HOME"])
        (home / "visited.txt").write_text(self.path)
        body = json.dumps({
            "path": self.path, "user": self.headers.get("X-Lab-User"), "base": os.environ["BASE"],
            "cookie": self.headers.get("Cookie", ""), "uid": os.getuid(),
        }).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 9000), Handler).serve_forever()
"""


async def test_a_third_environment_is_one_table(start_platform: StartPlatform) -> None:
    """Launched, reached through the gate, headers and user as its table says; the two that ship are still there."""
    table = {
        "name": "tiny-ide",
        "title": "Tiny IDE",
        "description": "Proves that another environment is one table",
        "image": built_image("jupyterlab"),
        "port": 9000,
        "home": "/home/coder",
        "prefix": "strip",
        "health_path": "/ready",
        "start_path": "/welcome",
        "user": "{uid}:{uid}",
        "command": ["python3", "-c", APPLICATION],
        "env_vars": {"HOME": "/home/coder", "BASE": "{root_path}"},
        "request_headers": {"X-Lab-User": "{username}"},
        "offer": {"memory": ["512m"], "default_memory": "512m", "days": [3], "default_days": 3},
    }
    live = await start_platform({"environments": [table]})
    async with live.person("jo@example.org") as jo:
        catalogue = {one["name"]: one for one in (await jo.http.get("/api/v1/environments")).json()}
        assert list(catalogue) == ["rstudio", "jupyterlab", "tiny-ide"]
        assert catalogue["tiny-ide"]["available"] is True
        assert catalogue["tiny-ide"]["choices"]["memory"] == ["512m"]

        instance = await jo.launch_and_wait("tiny-ide")
        assert instance["limits"] | {"storage": ""} == {"memory": "512m", "cpus": 1.0, "storage": "", "days": 3}
        page = await jo.open(instance["id"])
        seen = json.loads(page.text)
        assert seen["path"] == "/welcome", "the prefix is stripped, and Open leads to the start page"
        assert seen["user"] == "jo"
        assert seen["base"] == f"/i/{instance['id']}"
        assert "lp_" not in seen["cookie"], "no cookie of the platform reaches a container"
        forged = await jo.http.get(jo.instance_url(instance["id"], "/x%2Fy?q=1"), headers={"X-Lab-User": "root"})
        assert json.loads(forged.text)["user"] == "jo"
        assert json.loads(forged.text)["path"] == "/x%2Fy?q=1"
        home = live.homes / "jo"
        assert (home / "visited.txt").stat().st_uid == home.stat().st_uid == seen["uid"]
        await jo.stop(instance["id"])
