"""Images with the package folders of those that the settings name, built from ours where those cannot be pulled.

What makes installed packages vanish there is who may write where, and which folder comes first; that is reproduced:
`stacks` has jupyter/docker-stacks' Python prefix /opt/conda, which group 100 may change; `rocker` has rocker/rstudio's
site library, which the group staff may change and R_LIBS puts first. Both come without what our images do for users.

Both have conda, pipx and renv as well. conda is the real one (24.7), which the package conda-lock brings along, as
conda itself is in no registry of Python's. renv is that of the next Debian. micromamba cannot be had this way.
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from .live import built_image

# conda as its own program again, with `{prefix}` as its root; what else it needs is what it asks for.
CONDA = 'import sys\\nfrom conda.cli.main import main\\nif __name__ == "__main__":\\n    sys.exit(main())\\n'
PROGRAMS = """
RUN {python} -m pip install --no-cache-dir --no-deps --target /tmp/lock conda-lock==4.0.3 \\
 && {python} -m pip install --no-cache-dir pipx boltons requests ruamel.yaml tqdm packaging platformdirs pluggy \\
      zstandard conda-package-handling conda-package-streaming distro frozendict setuptools archspec jsonpatch \\
      pycosat truststore \\
 && site=$({python} -c 'import boltons, os; print(os.path.dirname(os.path.dirname(boltons.__file__)))') \\
 && cp -r /tmp/lock/conda_lock/_vendor/conda $site/conda && rm -r /tmp/lock \\
 && grep -rl conda_lock._vendor $site/conda --include=*.py | xargs sed -i 's/conda_lock\\._vendor\\.//g' \\
 && printf '#!%s\\n{conda}' \\
      {python} > {prefix}/bin/conda \\
 && printf '#!%s\\nimport sys\\nfrom pipx.main import cli\\nsys.exit(cli())\\n' {python} > {prefix}/bin/pipx \\
 && chmod 755 {prefix}/bin/conda {prefix}/bin/pipx && mkdir -p {prefix}/conda-meta {prefix}/pkgs {prefix}/envs \\
 && : > {prefix}/conda-meta/history
RUN sed 's/bookworm/trixie/' /etc/apt/sources.list > /etc/apt/sources.list.d/next.list && apt-get update \\
 && cd /tmp && apt-get download r-cran-renv/trixie && dpkg -x r-cran-renv_*.deb / && rm r-cran-renv_*.deb \\
 && rm -rf /etc/apt/sources.list.d/next.list /var/lib/apt/lists/*
ENV CONDA_SOLVER=classic
"""

# Debian's Python copied to another place is a Python of that prefix, and packages are installed below it. Jupyter's
# modules stay where they are; its programs run with the copy.
STACKS = """
FROM {base}
USER 0
RUN mkdir -p /opt/conda/bin /opt/conda/lib/python3/dist-packages /opt/conda/local/lib/python3.11/dist-packages \\
 && cp /usr/bin/python3.11 /opt/conda/bin/python3.11 \\
 && ln -s python3.11 /opt/conda/bin/python3 && ln -s python3 /opt/conda/bin/python \\
 && cp -r /usr/lib/python3.11 /opt/conda/lib/python3.11 \\
 && rm -f /opt/conda/lib/python3.11/EXTERNALLY-MANAGED \\
 && cp -r /usr/lib/python3/dist-packages/pip* /opt/conda/lib/python3/dist-packages/ \\
 && echo /usr/local/lib/python3.11/dist-packages > /opt/conda/local/lib/python3.11/dist-packages/image.pth \\
 && echo /usr/lib/python3/dist-packages >> /opt/conda/local/lib/python3.11/dist-packages/image.pth \\
 && for name in jupyter jupyter-lab jupyter-server; do \\
      sed '1s,.*,#!/opt/conda/bin/python3,' "/usr/local/bin/$name" > "/opt/conda/bin/$name"; done \\
 && printf '#!/opt/conda/bin/python3\\nimport sys\\nfrom pip._internal.cli.main import main\\nsys.exit(main())\\n' \\
      > /opt/conda/bin/pip \\
 && chmod 755 /opt/conda/bin/* \\
 && : > /etc/R/Rprofile.site
{programs}
RUN chown -R 1000:100 /opt/conda /usr/local/lib/R/site-library \\
 && chmod -R g+rwX /opt/conda /usr/local/lib/R/site-library \\
 && find /opt/conda /usr/local/lib/R/site-library -type d -exec chmod g+s {{}} +
ENV PATH=/opt/conda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PIP_BREAK_SYSTEM_PACKAGES= \\
    CONDA_DIR=/opt/conda
USER 1000
"""

ROCKER = """
FROM {base}
RUN mkdir -p /usr/local/lib/R/site-library \\
 && chown root:staff /usr/local/lib/R/site-library && chmod 2775 /usr/local/lib/R/site-library \\
 && usermod -a -G staff rstudio \\
 && printf '%s\\n' "R_LIBS=\\${{R_LIBS-'/usr/local/lib/R/site-library:/usr/lib/R/library'}}" >> /etc/R/Renviron.site \\
 && echo "options(made.by = 'the image')" > /etc/R/Rprofile.site
RUN python3 -m venv /opt/miniconda
{programs}
RUN ln -s /opt/miniconda/bin/conda /opt/miniconda/bin/pipx /usr/local/bin/
"""


def stacks() -> str:
    """An image with the package folders of jupyter/docker-stacks."""
    return _built("stacks", STACKS.format(base=built_image("jupyterlab"), programs=_programs("/opt/conda")))


def rocker() -> str:
    """An image with the library and the init of rocker/rstudio (the stand-in's init does what rocker's does)."""
    return _built("rocker", ROCKER.format(base=built_image("rstudio-standin"), programs=_programs("/opt/miniconda")))


def _programs(prefix: str) -> str:
    return PROGRAMS.format(python=f"{prefix}/bin/python3", prefix=prefix, conda=CONDA)


def _built(name: str, dockerfile: str) -> str:
    """The image of that Dockerfile; built at its first use, and kept for the next run."""
    tag = f"launchpad-test/{name}:{hashlib.sha256(dockerfile.encode()).hexdigest()[:12]}"
    if subprocess.run(["docker", "image", "inspect", tag], capture_output=True, check=False).returncode:
        done = subprocess.run(
            ["docker", "build", "--tag", tag, "-"], input=dockerfile.encode(), capture_output=True, check=False
        )
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return tag


def write_wheel(folder: Path, name: str = "cowsays") -> Path:
    """A wheel of one module whose MOO says where it lies, and one program of its name."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    module = "MOO = __file__\n\n\ndef main():\n    print(MOO)\n"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", module)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/entry_points.txt", f"[console_scripts]\n{name} = {name}:main\n")
        files = (f"{name}.py", f"{info}/METADATA", f"{info}/WHEEL", f"{info}/entry_points.txt", f"{info}/RECORD")
        wheel.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in files))
    return path


def write_r_package(folder: Path, name: str = "moos") -> Path:
    """The source archive of an R package with one function, `moo`."""
    files = {
        "DESCRIPTION": f"Package: {name}\nVersion: 1.0\nTitle: Moos\nDescription: Says moo.\nLicense: MIT\n"
        "Author: A Cow\nMaintainer: A Cow <cow@example.org>\n",
        "NAMESPACE": "export(moo)\n",
        "R/moo.R": "moo <- function() 'moo'\n",
    }
    path = folder / f"{name}_1.0.tar.gz"
    write_tar(path, {f"{name}/{file}": text for file, text in files.items()})
    return path


def write_channel(folder: Path, name: str = "lowing") -> Path:
    """A channel of conda's with one package, whose one program says where it lies."""
    program = f'#!/bin/sh\necho "{name} in $0"\n'
    index = {"name": name, "version": "1.0", "build": "0", "build_number": 0, "depends": [], "subdir": "noarch"}
    digest = hashlib.sha256(program.encode()).hexdigest()
    paths = [{"_path": f"bin/{name}", "path_type": "hardlink", "sha256": digest, "size_in_bytes": len(program)}]
    files = {
        "info/index.json": json.dumps({**index, "noarch": "generic"}),
        "info/files": f"bin/{name}\n",
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}),
        f"bin/{name}": program,
    }
    channel = folder / "channel"
    for platform in ("noarch", "linux-64"):
        (channel / platform).mkdir(parents=True)
    package = channel / "noarch" / f"{name}-1.0-0.tar.bz2"
    write_tar(package, files, "w:bz2")
    content = package.read_bytes()
    about = {**index, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    for platform, packages in (("noarch", {package.name: about}), ("linux-64", {})):
        told = {"info": {"subdir": platform}, "packages": packages, "packages.conda": {}, "repodata_version": 1}
        (channel / platform / "repodata.json").write_text(json.dumps(told))
    return channel


def write_repository(folder: Path, name: str = "moos") -> Path:
    """A repository like CRAN with the source of one R package."""
    contrib = folder / "repository" / "src" / "contrib"
    contrib.mkdir(parents=True)
    write_r_package(contrib, name)
    (contrib / "PACKAGES").write_text(f"Package: {name}\nVersion: 1.0\nLicense: MIT\nNeedsCompilation: no\n")
    return folder / "repository"


def write_tar(path: Path, files: Mapping[str, str], mode: Literal["w:gz", "w:bz2"] = "w:gz") -> None:
    with tarfile.open(path, mode) as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            entry.mode = 0o755 if name.startswith("bin/") else 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
