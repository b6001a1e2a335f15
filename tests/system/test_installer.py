"""`install.sh` and `launchpad-apply` broken off half-way, run again, and on servers where others are already.

The whole script runs, in a view of the file system of its own where what it writes is gone afterwards. nginx, openssl
and useradd are real; systemd, the engine, certbot and the network are stand-ins that write down what they are asked.
What a server makes of it is shown in test_server.py.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
URL = "https://lab.example.org"
OPTIONS = f"--unattended --images none --url {URL} --instances-url https://run.example.org --admin admin@example.org"
MARK = "/opt/launchpad/.upgrade-from"

VIEW = """
set -eu
mount -t tmpfs none "$1"
for each in /etc /opt /usr/local /usr/sbin /var/lib; do
  mkdir -p "$1$each/upper" "$1$each/work"
  mount -t overlay overlay -o "lowerdir=$each,upperdir=$1$each/upper,workdir=$1$each/work" "$each"
done
mount -t tmpfs none /run
mkdir -p /run/systemd/system /run/launchpad/nginx
rm -f /etc/docker/daemon.json
echo here
exec sleep infinity
"""

# `hook`, where a test puts one, is what happens while the installer runs: it gets the program and its words.
ASKED = """#!/bin/bash
printf '%s %s\\n' "${0##*/}" "$*" >>@HERE@/asked
if [ -x @HERE@/hook ]; then @HERE@/hook "${0##*/}" "$@" || exit; fi
"""
STAND_INS = {
    "systemctl": 'case "$1" in is-failed) exit 1 ;; is-enabled) [ -e @HERE@/enabled ] ;; show) echo inactive ;;\n'
    '  enable) case "$*" in *launchpad.service*) touch @HERE@/enabled ;; esac ;; esac',
    "systemd-tmpfiles": "true",
    "apt-get": "exit 100",
    "apt-cache": "exit 100",
    "docker": "cat @HERE@/engine",
    "curl": "true",
    "journalctl": "true",
    "certbot": "true",
    "logger": "cat >>@HERE@/logged",
}
# A version of the program: it renders nginx's site, and writes down what else it is asked.
PROGRAM = f"""{ASKED}
case "$1" in nginx) PYTHONPATH={ROOT}/src exec {sys.executable} -m launchpad "$@" ;; esac
"""


# For hooks: the number of the script that asks, which may do so from a subshell.
SCRIPT = """#!/bin/bash
script() {
  local at=$PPID words name='' found
  while [ "$at" -gt 1 ]; do
    mapfile -d '' -t words <"/proc/$at/cmdline"
    case "${words[1]-}" in
      */install.sh | */launchpad-apply) [ "${name:=${words[1]}}" = "${words[1]}" ] || break; found=$at ;;
      *) [ -z "$name" ] || break ;;
    esac
    at=$(ps -o ppid= "$at" | tr -d ' ')
  done
  echo "$found"
}
"""


class Server:
    """A view of this machine in which the installer may write."""

    def __init__(self, here: Path) -> None:
        self.here = here
        self.packages = "/nothing"
        (here / "view").mkdir()
        (here / "bin").mkdir()
        self.says("engine", "false inactive")
        for name, text in STAND_INS.items():
            self.program(here / "bin" / name, ASKED + text)
        command = ["unshare", "--mount", "bash", "-c", VIEW, "view", str(here / "view")]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "here\n"

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()

    def program(self, path: Path, text: str) -> None:
        path.write_text(text.replace("@HERE@", str(self.here)) + "\n")
        path.chmod(0o755)

    def says(self, name: str, text: str) -> None:
        (self.here / name).write_text(text)

    def hook(self, text: str) -> None:
        self.program(self.here / "hook", SCRIPT + text)

    def no_hook(self) -> None:
        (self.here / "hook").unlink()

    def run(self, script: str) -> tuple[int, str]:
        """Exit code, and what it said."""
        environment = {"PATH": f"{self.here}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        done = subprocess.run(
            ["nsenter", "--target", str(self._holder.pid), "--mount", "bash", "-c", script],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def good(self, script: str) -> str:
        code, said = self.run(script)
        assert code == 0, said
        return said

    def install(self, options: str = OPTIONS) -> tuple[int, str]:
        return self.run(f"{ROOT}/install.sh {options}")

    def functions(self, script: str) -> tuple[int, str]:
        """Runs `script` after the installer's own functions, and nothing else of it."""
        return self.run(
            f"text=$(sed '/^# -- all of it/,$d' {ROOT}/install.sh)\n"
            f"exec bash -c \"$text\"'\n{script}' {ROOT}/install.sh"
        )

    @property
    def asked(self) -> list[str]:
        path = self.here / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def forget(self) -> None:
        (self.here / "asked").unlink(missing_ok=True)

    def release(self) -> str:
        """The version of this tree, as if it had been made already."""
        said = self.good(f"{ROOT}/install.sh {OPTIONS} --dry-run")
        release, packages = (
            re.search(rf"{words} (/opt/\S+)", said) for words in (r"Installing version \S+ into", "packages into")
        )
        assert release is not None
        assert packages is not None, said
        self.packages = packages[1]
        self.good(f"mkdir -p {self.packages} && touch {self.packages}/.complete")
        return self.make_release(release[1], "0.1.0")

    def make_release(self, path: str, version: str) -> str:
        self.program(self.here / "launchpad", PROGRAM)
        self.program(self.here / "python", "#!/bin/sh\ntrue")
        self.good(
            f"mkdir -p {path}/bin {path}/share/launchpad && cp {self.here}/launchpad {self.here}/python {path}/bin/ && "
            f"cp -R {ROOT}/deploy {path}/share/launchpad/ && "
            f"echo {version} >{path}/version && touch {path}/.complete && "
            f"mkdir -p {path}/lib/python3/site-packages && "
            f"echo {self.packages}/lib/python3 >{path}/lib/python3/site-packages/packages.pth"
        )
        return path

    def installed(self, version: str = "0.0.9") -> str:
        """The path of an older version that is in force, with settings, and runs."""
        self.release()
        code, said = self.install()
        assert code == 0, said
        older = self.make_release(f"/opt/launchpad/releases/{version}-abc", version)
        self.good(f"ln -sfn {older} /opt/launchpad/current")
        self.forget()
        return older


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    try:
        yield made
    finally:
        made.close()


def in_force(server: Server) -> str:
    return server.good("readlink /opt/launchpad/current").strip()


# -- the first time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment", ["openssl", "systemctl enable --quiet --now docker", "systemctl start launchpad-helper"]
)
def test_an_installation_that_was_broken_off_goes_on_with_the_next_run(server: Server, moment: str) -> None:
    server.release()
    server.program(server.here / "bin/openssl", ASKED + 'exec /usr/bin/openssl "$@"')
    server.hook(f'case "$*" in "{moment}"*) kill -9 $(script); exit 1 ;; esac')
    assert server.install()[0] != 0
    server.no_hook()
    code, said = server.install()
    assert code == 0, said
    assert said.endswith(f"Ready: {URL}\n")
    assert "lab.example.org" in server.good("openssl x509 -in /etc/launchpad/tls/chain.pem -noout -subject")
    assert "launchpad.service" in " ".join(each for each in server.asked if each.startswith("systemctl start"))


def test_one_that_never_ran_is_no_version_to_come_back_to(server: Server) -> None:
    """Broken off, and then the clone was brought up to date."""
    server.release()
    server.hook('case "$*" in "systemctl enable --quiet --now docker") kill -9 $(script) ;; esac')
    assert server.install()[0] != 0
    older = server.make_release("/opt/launchpad/releases/0.0.9-abc", "0.0.9")
    server.good(f"ln -sfn {older} /opt/launchpad/current")
    server.no_hook()
    code, said = server.install()
    assert code == 0, said
    assert "Copying the database" not in said
    assert "launchpad backup" not in server.asked


def test_a_certificate_that_the_authority_refused_is_asked_for_by_the_next_run(server: Server) -> None:
    server.release()
    server.hook('[ "$1" != certbot ] || exit 1')
    code, said = server.install(f"{OPTIONS} --tls acme --acme-email post@example.org")
    assert code == 0, said
    assert "Let's Encrypt did not issue a certificate" in said
    assert "certbot" in " ".join(server.asked)
    server.forget()
    server.no_hook()
    server.good(
        "mkdir -p /etc/letsencrypt/live/launchpad && cd /etc/letsencrypt/live/launchpad && "
        "cp /etc/launchpad/tls/chain.pem fullchain.pem && cp /etc/launchpad/tls/key.pem privkey.pem"
    )
    code, said = server.install()
    assert code == 0, said
    assert any("--email post@example.org" in each for each in server.asked), server.asked
    assert server.good("readlink /etc/launchpad/tls/key.pem").strip() == "/etc/letsencrypt/live/launchpad/privkey.pem"
    server.forget()
    assert server.install()[0] == 0
    assert not any(each.startswith("certbot") for each in server.asked), "it is there now"


def test_a_certificate_of_ones_own_is_not_replaced_by_another_try_at_the_authority(server: Server) -> None:
    server.release()
    server.hook('[ "$1" != certbot ] || exit 1')
    assert server.install(f"{OPTIONS} --tls acme")[0] == 0
    server.good(
        "cd /etc/launchpad/tls && openssl req -new -key key.pem -subj /CN=lab.example.org -out /run/csr 2>/dev/null && "
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=CA -keyout /run/ca.key -out /run/ca.pem 2>/dev/null && "
        "openssl x509 -req -in /run/csr -CA /run/ca.pem -CAkey /run/ca.key -CAcreateserial -out chain.pem 2>/dev/null"
    )
    server.forget()
    assert server.install()[0] == 0
    assert not any(each.startswith("certbot") for each in server.asked)


@pytest.mark.parametrize("end", ["kill -INT 0", "exit 100", "true"])
def test_no_rule_that_keeps_services_from_starting_is_left_behind(server: Server, end: str) -> None:
    """Whether packages are installed, cannot be, or Ctrl-C comes in between."""
    policy = "/usr/sbin/policy-rc.d"
    server.good(f"rm -rf /run/systemd {policy}")
    server.program(server.here / "bin/apt-get", f"{ASKED}cat {policy} >>@HERE@/policy\n{end}")
    script = f". {ROOT}/scripts/lib.sh; install_packages surely-missing=surely-missing"
    code, said = server.run(f"setsid --wait bash -euo pipefail -c '{script}'")
    assert (code == 0) is (end == "true"), said
    assert "exit 101" in (server.here / "policy").read_text()
    assert server.run(f"test -e {policy}")[0] != 0


# -- where others are already ------------------------------------------------------------------------------------------


def test_an_engine_that_others_use_is_not_restarted(server: Server) -> None:
    server.release()
    assert server.install()[0] == 0
    assert "live-restore" in server.good("cat /etc/docker/daemon.json")
    assert "systemctl reload docker" in server.asked
    assert "systemctl restart docker" not in server.asked


def test_an_engine_of_a_swarm_is_left_as_it_is(server: Server) -> None:
    """With live-restore it would not start again."""
    server.release()
    server.says("engine", "false active")
    code, said = server.install()
    assert code == 0
    assert "part of a swarm" in said
    assert server.run("test -e /etc/docker/daemon.json")[0] != 0


def test_a_site_that_was_here_before_stays(server: Server) -> None:
    server.release()
    server.good("ln -sfn /etc/nginx/sites-available/default /etc/nginx/sites-enabled/default")
    assert server.install()[0] == 0
    server.good("test -L /etc/nginx/sites-enabled/default")


def test_a_person_of_the_portals_name_is_not_taken_for_it(server: Server) -> None:
    server.release()
    server.good("groupadd -f docker; useradd --uid 4321 --groups docker launchpad")
    code, said = server.install()
    assert code == 1
    assert "The user launchpad already exists" in said
    assert server.run("test -e /etc/launchpad")[0] != 0


# -- another version ---------------------------------------------------------------------------------------------------


def test_an_upgrade_that_the_power_went_from_goes_on_and_can_still_be_taken_back(server: Server) -> None:
    older = server.installed()
    server.hook('case "$*" in "systemctl restart launchpad-helper"*) kill -9 $(script) ;; esac')
    assert server.install()[0] != 0
    assert in_force(server) != older
    server.no_hook()
    server.forget()
    code, said = server.install()
    assert code == 0, said
    assert "launchpad release keep --again" in server.asked, "the copy from before the tables were changed stays"
    assert "launchpad backup" not in server.asked
    assert "systemctl restart launchpad-helper.service launchpad.service" in server.asked
    server.good(f"test -e {older}/.complete && test ! -L {MARK}")


def test_an_upgrade_that_the_power_went_from_is_taken_back_by_the_version_before(server: Server) -> None:
    own = server.release()
    assert server.install()[0] == 0
    newer = server.make_release("/opt/launchpad/releases/9.0-abc", "9.0")
    server.good(f"ln -sfn {newer} /opt/launchpad/current && ln -sfn {own} {MARK}")
    server.forget()
    code, said = server.install()
    assert code == 0, said
    assert "launchpad release back" in server.asked
    assert "systemctl stop launchpad.socket launchpad.service launchpad-helper.service" in server.asked
    assert in_force(server) == own
    server.good(f"test ! -L {MARK}")


@pytest.mark.parametrize("signal", ["INT", "HUP", "TERM"])
def test_an_upgrade_that_is_broken_off_is_taken_back_at_once(server: Server, signal: str) -> None:
    older = server.installed()
    server.hook(f'case "$*" in "systemctl restart launchpad-helper"*) kill -{signal} $(script); exit 1 ;; esac')
    code, said = server.install()
    assert code == 1, said
    said += (server.here / "logged").read_text() if signal == "HUP" else ""
    assert "was interrupted. 0.0.9 was restored" in said
    assert in_force(server) == older
    assert "launchpad release back" in server.asked
    assert any(each.startswith("systemctl start") and "launchpad-sweep.timer" in each for each in server.asked)
    server.good(f"test ! -L {MARK}")


@pytest.mark.parametrize(
    "line", [f"public_url = '{URL}'", f'public_url = "{URL}" # the "new" name', f' public_url="{URL}"']
)
def test_settings_that_somebody_wrote_in_another_way_are_understood(server: Server, line: str) -> None:
    server.installed()
    server.good(
        f"cat >/run/line <<'END'\n{line}\nEND\n"
        "sed -i -e '/^public_url/{r /run/line' -e 'd}' /etc/launchpad/launchpad.toml"
    )
    code, said = server.install()
    assert code == 0, said
    assert any(each.startswith("curl") and each.endswith(f" {URL}/readyz") for each in server.asked), server.asked
    assert said.endswith(f"Ready: {URL}\n")


def test_a_full_disk_leaves_the_units_that_were_there(server: Server) -> None:
    server.good(
        "mount -t tmpfs -o size=8k none /opt && echo before >/opt/unit && "
        "head -c 8k /dev/zero >/opt/filling 2>/dev/null; "
        "head -c 20k /dev/urandom >/run/new"
    )
    assert server.functions("put 0644 /run/new /opt/unit")[0] != 0
    assert server.good("cat /opt/unit; ls /opt").split() == ["before", "filling", "unit"]
    assert server.functions("put 0644 /run/new /run/unit")[0] == 0
    server.good("cmp /run/new /run/unit")


def test_a_version_whose_python_is_gone_is_made_anew(server: Server) -> None:
    """After a new release of the distribution."""
    release = server.release()
    script = f"release={release} packages=/nothing PYTHON=false; make_release"
    assert server.functions(script)[0] == 0
    server.good(f"ln -sfn /usr/bin/python3.0 {release}/bin/python")
    assert server.functions(script)[0] != 0
    assert server.run(f"test -e {release}/.complete")[0] != 0


# -- nginx's site ------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(server: Server) -> Server:
    server.release()
    assert server.install()[0] == 0
    server.good("sed -i s/lab.example.org/other.example.org/ /etc/launchpad/launchpad.toml")
    server.program(server.here / "bin/nginx", ASKED + 'exec /usr/sbin/nginx "$@"')
    return server


SITE = "/etc/nginx/sites-available/launchpad"


@pytest.mark.parametrize("signal", ["INT", "TERM", "HUP"])
def test_apply_that_is_broken_off_leaves_the_site_that_nginx_accepts(served: Server, signal: str) -> None:
    before = served.good(f"cat {SITE}")
    served.hook(f'case "$*" in "nginx -t") kill -{signal} $(script); sleep 1 ;; esac')
    assert served.run("launchpad-apply")[0] != 0
    assert served.good(f"cat {SITE}") == before
    assert served.good("ls /etc/nginx/sites-available | grep launchpad").split() == ["launchpad"]
    served.no_hook()
    served.good("launchpad-apply")
    assert "other.example.org" in served.good(f"cat {SITE}")


def test_apply_on_a_full_disk_leaves_the_site_that_was_there(served: Server) -> None:
    before = served.good(f"cat {SITE}")
    served.good(
        "cp -R /etc/nginx/sites-available /run/sites && mount -t tmpfs -o size=256k none /etc/nginx/sites-available && "
        "cp -R /run/sites/* /etc/nginx/sites-available/ && head -c 256k /dev/zero >/etc/nginx/sites-available/filling "
        "2>/dev/null; true"
    )
    assert served.run("launchpad-apply")[0] != 0
    assert served.good(f"cat {SITE}") == before


def test_an_nginx_that_reads_no_sites_is_told_of(served: Server) -> None:
    served.good("sed -i /sites-enabled/d /etc/nginx/nginx.conf")
    code, said = served.run("launchpad-apply")
    assert code == 1
    assert "does not include /etc/nginx/sites-enabled" in said


def test_the_view_leaves_the_machine_alone(served: Server) -> None:
    served.good(f"test -e {SITE}")
    assert not os.path.exists(SITE)
    assert not os.path.exists("/etc/launchpad")
