"""A rendered configuration as text: where it listens, and what nginx itself says of it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from launchpad.ops.nginx import Form
from web.nginx_stub import free_port, nginx_binary

# What Debian's nginx.conf says around sites-enabled, and a site that was there before.
AROUND_SITE = """
pid "{folder}/nginx.pid";
error_log stderr;
events {{ worker_connections 768; }}
http {{
    sendfile on; tcp_nopush on; types_hash_max_size 2048; default_type application/octet-stream;
    ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3; ssl_prefer_server_ciphers on;
    access_log "{folder}/other.log"; gzip on;
    server {{ listen 80 default_server; listen [::]:80 default_server; server_name _; }}
    include "{folder}/site.conf";
}}
"""


def listens(text: str) -> set[str]:
    return set(re.findall(r"^\s*listen ([^;]+);", text, re.MULTILINE))


def check(text: str, folder: Path, form: Form = "full") -> tuple[int, str]:
    """`nginx -t` on a configuration, written into `folder`: its exit code and what it says."""
    configuration = folder / "nginx.conf"
    if form == "site":
        (folder / "site.conf").write_text(_elsewhere(text))
        text = AROUND_SITE.format(folder=folder)
    configuration.write_text(_elsewhere(text))
    done = subprocess.run(
        [nginx_binary(), "-t", "-c", str(configuration)], capture_output=True, text=True, timeout=20, check=False
    )
    return done.returncode, done.stderr


def _elsewhere(text: str) -> str:
    """The same on free loopback ports: nginx -t opens the ports it checks."""
    ports: dict[str, int] = {}

    def moved(found: re.Match[str]) -> str:
        host, port, rest = found["host"] or "", found["port"], found["rest"]
        here = "[::1]" if host.startswith("[") else "127.0.0.1"
        return f"listen {here}:{ports.setdefault(port, free_port())}{rest};"

    return re.sub(r"listen (?:(?P<host>\[[0-9a-f:]*\]|[0-9.]+):)?(?P<port>\d+)(?P<rest>[^;]*);", moved, text)
