"""Images with the package folders of those that the settings name, built from ours where those cannot be pulled.

What makes installed packages vanish there is who may write where, and which folder comes first; that is reproduced:
`stacks` has jupyter/docker-stacks' Python prefix /opt/conda, which group 100 may change; `rocker` has rocker/rstudio's
site library, which the group staff may change and R_LIBS puts first. Both come without what our images do for users.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from .live import built_image

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
 && : > /etc/R/Rprofile.site \\
 && chown -R 1000:100 /opt/conda /usr/local/lib/R/site-library \\
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
"""


def stacks() -> str:
    """An image with the package folders of jupyter/docker-stacks."""
    return _built("stacks", STACKS.format(base=built_image("jupyterlab")))


def rocker() -> str:
    """An image with the library and the init of rocker/rstudio (the stand-in's init does what rocker's does)."""
    return _built("rocker", ROCKER.format(base=built_image("rstudio-standin")))


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


def write_tar(path: Path, files: Mapping[str, str]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
