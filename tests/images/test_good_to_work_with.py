"""What people expect of a machine to work on: packages that install, compilers, venv, locales, a shell set up."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from images.conftest import UID
from support.live import built_image

IMAGES = {"jupyterlab": "/home/jovyan", "rstudio-standin": "/home/rstudio"}

PACKAGE = {
    "DESCRIPTION": "Package: R6like\nVersion: 1.0\nTitle: Like R6\nDescription: For a test.\nAuthor: A\n"
    "Maintainer: A <a@example.org>\nLicense: MIT\nNeedsCompilation: yes\nEncoding: UTF-8\n",
    "NAMESPACE": "useDynLib(R6like, give_answer)\nexport(answer)\n",
    "R/answer.R": "answer <- function() .Call(give_answer)\n",
    "src/answer.c": "#include <R.h>\n#include <Rinternals.h>\nSEXP give_answer(void) { return ScalarInteger(42); }\n",
}


def repository(folder: Path) -> Path:
    """A mirror of CRAN's form with one package that has to be compiled."""
    contrib = folder / "cran" / "src" / "contrib"
    contrib.mkdir(parents=True)
    with tarfile.open(contrib / "R6like_1.0.tar.gz", "w:gz") as tar:
        for name, text in PACKAGE.items():
            member = tarfile.TarInfo(f"R6like/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    (contrib / "PACKAGES").write_text("Package: R6like\nVersion: 1.0\nLicense: MIT\nNeedsCompilation: yes\n\n")
    for path in (folder / "cran").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder / "cran"


def inside(image: str, home: Path, script: str, *options: str) -> str:
    """What a shell of the user's prints, in the image and with the home."""
    place = IMAGES[image]
    done = subprocess.run(
        [
            *("docker", "run", "--rm", "--cap-drop=ALL", "--user", f"{UID}:0", "--workdir", place),
            *("-e", f"HOME={place}", "-v", f"{home}:{place}", *options, "--entrypoint", "bash"),
            *(built_image(image), "-lc", script),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("image", IMAGES)
def test_r_packages_install_without_a_question_from_the_sites_mirror(image: str, home: Path, tmp_path: Path) -> None:
    """In a terminal, and compiled; the next container has them, since they lie in the home."""
    mirror = repository(tmp_path)
    given = ("-v", f"{mirror}:/mirror:ro", "-e", "LAUNCHPAD_CRAN_MIRROR=file:///mirror")
    inside(image, home, "Rscript -e 'install.packages(\"R6like\", quiet = TRUE)' </dev/null", *given)
    printed = inside(image, home, "R --no-echo -e 'cat(R6like::answer(), find.package(\"R6like\"))'")
    assert printed.startswith(f"42 {IMAGES[image]}/R/"), printed
    assert "https://cloud.r-project.org" in inside(image, home, "Rscript -e 'cat(getOption(\"repos\"))'")


@pytest.mark.parametrize("image", IMAGES)
def test_tools_are_there(image: str, home: Path) -> None:
    """Compilers, venv with pip, and what one types in a terminal; nothing needs root."""
    commands = (
        "gcc g++ gfortran make pkg-config git curl wget vi nano less htop zip unzip rsync tmux jq ssh python pip3"
    )
    inside(
        image, home, f'for name in {commands}; do command -v "$name" >/dev/null || {{ echo "$name"; exit 1; }}; done'
    )
    inside(image, home, "pkg-config --exists libcurl openssl libxml-2.0 fontconfig freetype2 harfbuzz fribidi libpng")
    made = inside(image, home, "python3 -m venv ~/own && . ~/own/bin/activate && python -m pip --version")
    assert f"{IMAGES[image]}/own/" in made
    built = "echo 'int main(void) { return 0; }' >a.c && gcc a.c -o a && ./a && ls /usr/include/python3*/Python.h"
    assert "Python.h" in inside(image, home, built)
    assert "MASS" in inside(image, home, "Rscript -e 'library(MASS); library(survival); cat(.packages())'")


@pytest.mark.parametrize("image", IMAGES)
def test_common_locales_and_time_zones(image: str, home: Path) -> None:
    for name in ("en_US", "de_DE", "zh_CN"):
        script = f'LANG={name}.UTF-8 Rscript -e \'cat(Sys.getlocale("LC_CTYPE"), nchar("äöü"))\''
        assert f"{name}.UTF-8 3" in inside(image, home, script)
    hour = "date -d '2026-07-01 12:00 UTC' +%H"
    assert inside(image, home, hour, "-e", "TZ=Asia/Singapore").strip() == "20"
    assert inside(image, home, hour, "-e", "TZ=Europe/Berlin").strip() == "14", "with its summer time"


def start(image: str, home: Path) -> None:
    """The way an environment starts, as far as its first command."""
    if image == "jupyterlab":
        command = ["--user", f"{UID}:0", built_image(image), "ls"]
    else:
        command = ["--user", f"{UID}:0", "-e", "HOME=/home/rstudio", built_image(image), "copy-skeleton"]
    mount = ["-v", f"{home}:{IMAGES[image]}"]
    subprocess.run(["docker", "run", "--rm", "--cap-drop=ALL", *mount, *command], check=True, capture_output=True)


@pytest.mark.parametrize("image", IMAGES)
def test_an_empty_home_gets_skeleton_files_once(image: str, home: Path) -> None:
    start(image, home)
    names = {".bashrc", ".profile", ".bash_logout"}
    assert {path.name for path in home.iterdir()} >= names
    assert {(home / name).stat().st_uid for name in names} == {UID}
    assert (home / ".bashrc").read_text().startswith("# ~/.bashrc")
    (home / ".bashrc").unlink()
    (home / ".profile").write_text("my own")
    start(image, home)
    assert not (home / ".bashrc").exists(), "removed by its owner, it does not come back"
    assert (home / ".profile").read_text() == "my own"


@pytest.mark.parametrize("image", IMAGES)
def test_skeleton_files_follow_no_link(image: str, home: Path) -> None:
    """Nor do they go where anything is already, a broken link too."""
    (home / ".bashrc").symlink_to("elsewhere")
    start(image, home)
    assert os.readlink(home / ".bashrc") == "elsewhere"
    assert [path.name for path in home.iterdir() if path.name in ("elsewhere", ".profile")] == []
