"""The rendered text: what nginx itself accepts, where it listens, what is refused."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from launchpad.errors import SettingsError
from launchpad.ops.nginx import Form, has_ipv6_loopback, render, worker_user
from launchpad.settings import tables
from support.certificates import certificate
from web.nginx_text import check, listens

MODES = {
    "two ports": ("http://localhost:8080", "http://localhost:8081"),
    "two names": ("http://lab.example.org", "http://run.lab.example.org"),
    "two names, https": ("https://lab.example.org", "https://run.lab.example.org"),
    "two ports, https": ("https://lab.example.org", "https://lab.example.org:8443"),
    "one origin": ("http://localhost:8080", "http://localhost:8080"),
    "one origin, https": ("https://lab.example.org", "https://lab.example.org"),
    "addresses": ("http://127.0.0.1:8080", "http://[::1]:8081"),
    "a long name": (f"https://{'a' * 60}.{'b' * 30}.example.org", "https://lab.example.org:8443"),
    "a name for each": ("http://lab.example.org", "http://{instance}.run.example.org"),
    "a name for each over https": ("https://lab.example.org", "https://{instance}.lab.example.org"),
}


def rendered(mode: str, folder: Path, form: Form, ipv6_loopback: bool = False, **values: Any) -> str:
    public_url, instances_url = MODES[mode]
    if public_url.startswith("https"):
        chain, key = certificate(folder, "lab.example.org")
        values["tls"] = {"certificate": chain, "key": key}
    settings = tables({"public_url": public_url, "instances_url": instances_url, **values})
    user = worker_user(folder)
    return render(
        settings,
        socket=folder / "portal.sock",
        runtime_dir=folder,
        form=form,
        ipv6_loopback=ipv6_loopback,
        worker_user=user,
    )


# [::1] can only be checked where the machine has it.
IPV6 = [False, True] if has_ipv6_loopback() else [False]
CHECKED = [(mode, ipv6) for mode in MODES for ipv6 in IPV6 if ipv6 or mode != "addresses"]


@pytest.mark.parametrize(("mode", "ipv6_loopback"), CHECKED)
@pytest.mark.parametrize("form", ["full", "site"])
def test_nginx_accepts_it_without_a_warning(folder: Path, form: Form, mode: str, ipv6_loopback: bool) -> None:
    code, said = check(rendered(mode, folder, form, ipv6_loopback), folder, form)
    assert code == 0, said
    assert re.findall(r"\[\w+\]", said) == []


@pytest.mark.parametrize(
    ("mode", "ipv6", "expected"),
    [
        ("two ports", False, {"127.0.0.1:8080", "127.0.0.1:8081"}),
        ("two ports", True, {"127.0.0.1:8080", "127.0.0.1:8081", "[::1]:8080", "[::1]:8081"}),
        ("one origin", True, {"127.0.0.1:8080", "[::1]:8080"}),
        ("two names", False, {"80"}),
        ("two names, https", True, {"443 ssl http2", "[::]:443 ssl http2"}),
        ("two ports, https", False, {"443 ssl http2", "8443 ssl http2"}),
        ("addresses", True, {"127.0.0.1:8080", "[::1]:8081"}),
    ],
)
def test_it_listens_where_the_urls_say(folder: Path, mode: str, ipv6: bool, expected: set[str]) -> None:
    """A loopback name is served on loopback only, and any other on all addresses."""
    found = listens(rendered(mode, folder, "full", ipv6))
    assert {listen.removesuffix(" default_server") for listen in found} == expected


def test_the_same_port_is_never_opened_on_loopback_and_everywhere(folder: Path) -> None:
    settings = tables({"public_url": "http://lab.example.org:8080", "instances_url": "http://localhost:8080"})
    text = render(settings, socket=folder / "s", runtime_dir=folder, form="site")
    assert listens(text) == {"8080"}


def test_only_the_site_form_takes_port_80_for_https(folder: Path) -> None:
    assert "80" in listens(rendered("two names, https", folder, "site"))
    assert "80" not in listens(rendered("two names, https", folder, "full"))
    assert listens(rendered("two names", folder, "site")) == {"80"}


def test_the_site_form_claims_no_default_server(folder: Path) -> None:
    """Debian's own default site has it; two of them are an error."""
    assert "default_server" not in rendered("two names", folder, "site")


def test_the_full_form_leaves_nothing_outside_its_folder(folder: Path) -> None:
    text = rendered("two names, https", folder, "full")
    directives = r'^\s*(?:pid|access_log|error_log|\w+_temp_path|ssl_certificate\w*) "?([^";\s]+)'
    files = set(re.findall(directives, text, re.MULTILINE))
    assert len(files) >= 9
    assert {file for file in files if not file.startswith(str(folder))} == {"stderr", "/dev/null"}


def test_idle_instances_are_not_cut_off(folder: Path) -> None:
    """A kernel may be silent for hours: the limits between two bytes from and to an instance."""
    text = rendered("two ports", folder, "full")
    inside = text[text.index("auth_request /_gate") : text.index("proxy_pass http://$lp_upstream")]
    assert "proxy_read_timeout 24h;" in inside
    assert "proxy_send_timeout 1h;" in inside
    events = text[text.index("/events") :]
    assert "proxy_read_timeout 2h;" in events[: events.index("}\n")]


def test_every_header_of_every_environment_is_set_or_cleared(folder: Path) -> None:
    own = {"name": "own", "title": "Own", "image": "own:1", "port": 80, "home": "/home/own"}
    headers = {"X-Own-User": "{username}", "x-rstudio-root-path": "{root_path}", "Remote-User": "{username}"}
    text = rendered("two ports", folder, "full", environments=[{**own, "request_headers": headers}])
    inside = text[text.index("auth_request /_gate") : text.index("proxy_pass http://$lp_upstream")]
    names = [name.lower() for name in re.findall(r"proxy_set_header (\S+)", inside)]
    assert len(names) == len(set(names))
    for name in ("X-Own-User", "X-RStudio-Root-Path", "Remote-User", "Authorization"):
        [variable] = re.findall(rf"proxy_set_header {name} \$(\w+);", inside, re.IGNORECASE)
        assert f"${variable} $upstream_http_x_gate_header_{name.lower().replace('-', '_')};" in inside


@pytest.mark.parametrize("name", ["Cookie", "host", "X-Forwarded-For", "Connection", "Content-Length", "X-Gate-Prefix"])
def test_a_header_that_nginx_needs_is_no_environments(folder: Path, name: str) -> None:
    own = {"name": "own", "title": "Own", "image": "own:1", "port": 80, "home": "/home/own"}
    with pytest.raises(SettingsError, match=rf"environments\.own\.request_headers.*{name}"):
        rendered("two ports", folder, "full", environments=[{**own, "request_headers": {name: "x"}}])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"public_url": "http://lab_1.example.org"}, "public_url"),
        ({"public_url": "http://a;b:80"}, "public_url"),
        ({"public_url": "https://lab.example.org", "instances_url": "https://lab.example.org:8443"}, "tls.certificate"),
    ],
)
def test_what_nginx_cannot_serve_is_refused_by_name(folder: Path, values: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        render(tables(values), socket=folder / "s", runtime_dir=folder, form="full")


@pytest.mark.parametrize("name", ['quo"te', "dol$lar", "back\\slash", "line\nbreak"])
def test_a_path_that_would_be_read_as_configuration_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="path"):
        render(tables({}), socket=folder / "s", runtime_dir=folder / name, form="full")
    with pytest.raises(SettingsError, match="path"):
        render(tables({}), socket=folder / name, runtime_dir=folder, form="full")


def test_a_path_with_a_space_or_a_brace_works(folder: Path) -> None:
    runtime_dir = folder / "a {b}; c#d"
    runtime_dir.mkdir()
    text = render(
        tables({}), socket=runtime_dir / "s", runtime_dir=runtime_dir, form="full", worker_user=worker_user(folder)
    )
    code, said = check(text, folder)
    assert code == 0, said


def test_a_socket_path_too_long_for_the_kernel_is_refused(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"web\.socket"):
        render(tables({}), socket=Path("/" + "x" * 107), runtime_dir=folder, form="full")


@pytest.mark.parametrize("user", ["root; x", "a b c", "", "$x"])
def test_a_worker_user_is_a_name(folder: Path, user: str) -> None:
    with pytest.raises(ValueError, match="user"):
        render(tables({}), socket=folder / "s", runtime_dir=folder, form="full", worker_user=user)


def test_the_workers_user_can_reach_what_it_must(folder: Path) -> None:
    """An ordinary user where the way is open, root only where nothing else would do; no name unless root starts it."""
    folder.chmod(0o755)
    opened = worker_user(folder / "portal.sock", folder)
    folder.chmod(0o700)
    closed = worker_user(folder / "portal.sock", folder)
    if os.geteuid() == 0:
        assert opened in ("www-data www-data", "nginx nginx", "nobody nogroup", "nobody nobody")
        assert closed == "root root"
    else:
        assert (opened, closed) == (None, None)
