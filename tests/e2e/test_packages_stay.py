"""Installed packages lie in the home and are there at the next launch, also in images with folders for all to write."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from launchpad.runtime.engine import EngineRuntime
from launchpad.settings import EngineSettings
from support.live import LivePlatform, Person, docker
from support.lookalikes import rocker, stacks, write_channel, write_r_package, write_repository, write_wheel
from support.smtp import MailServer

# As a third environment would use such an image: with the group that may write to it.
SHARED = {
    "name": "shared-lab",
    "title": "Lab of another maker",
    "port": 8888,
    "home": "/home/jovyan",
    "prefix": "keep",
    "health_path": "{root_path}/api",
    "user": "{uid}:0",
    "groups": ["100"],
    "command": ["start-notebook.py", "--ServerApp.base_url={root_path}/"],
    "env_vars": {"JUPYTER_TOKEN": "{token}", "NB_USER": "{username}"},
    "request_headers": {"Authorization": "token {token}"},
}
HOMES = {"jupyterlab": "/home/jovyan", "shared-lab": "/home/jovyan", "rstudio": "/home/rstudio"}
PYTHON = ["jupyterlab", "shared-lab"]


class Owner:
    """Somebody with a home, and what they type in a terminal of their instance."""

    def __init__(self, person: Person, environment: str) -> None:
        self.person = person
        self.environment = environment
        self.home = person.live.homes / person.me["username"]
        self.instance: dict[str, str] = {}

    async def launch(self) -> None:
        self.instance = await self.person.launch_and_wait(self.environment)

    async def relaunch(self) -> None:
        await self.person.stop(self.instance["id"])
        await self.launch()

    async def types(self, script: str, *, variables: bool = True) -> str:
        """Output of a shell script in the instance; without `variables` with none of the container's."""
        home = HOMES[self.environment]
        uid = self.home.stat().st_uid
        user = ["-u", f"{uid}:{uid}"] if self.environment == "rstudio" else []  # else the container's own
        clean = ["env", "HOME=" + home] if variables else ["env", "-i", f"HOME={home}", "PATH=/usr/bin:/bin"]
        container = self.person.live.container_of(self.instance["id"])["Id"]
        process = await asyncio.create_subprocess_exec(
            *("docker", "exec", "-w", home, *user, container, *clean, "sh", "-ec", script),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output = (await process.communicate())[0].decode()
        assert process.returncode == 0, output
        return output.strip()


@pytest.fixture(scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory, mail: MailServer) -> AsyncIterator[LivePlatform]:
    """Both shipped entries and another one, with images that are laid out like those that the settings name."""
    python, r = await asyncio.gather(asyncio.to_thread(stacks), asyncio.to_thread(rocker))
    entries = [{"name": "jupyterlab", "image": python}, {"name": "rstudio", "image": r}, {**SHARED, "image": python}]
    platform = LivePlatform(tmp_path_factory.mktemp("packages"), mail, {"environments": entries})
    await platform.start()
    yield platform
    await platform.stop()


@pytest.fixture
async def owner(live: LivePlatform, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Owner]:
    """Their home holds a wheel and an R package, so that nothing has to be fetched."""
    async with live.person(f"owner{secrets.token_hex(4)}@example.org") as person:
        owner = Owner(person, request.param)
        await owner.launch()
        for path in (write_wheel(tmp_path), write_r_package(tmp_path, "moos"), write_r_package(tmp_path, "cows")):
            shutil.copy(path, owner.home)
        yield owner
        await person.stop(owner.instance["id"])


@pytest.mark.parametrize("owner", PYTHON, indirect=True)
async def test_what_pip_installs_is_there_at_the_next_launch(owner: Owner) -> None:
    """Module and program; the image's own Python could have taken it in, and would have lost it."""
    writable = await owner.types("test -w /opt/conda/local/lib/python3.11/dist-packages && echo yes || echo no")
    assert writable == ("yes" if owner.environment == "shared-lab" else "no")
    await owner.types("pip install --no-index cowsays-1.0-py3-none-any.whl")
    await owner.relaunch()
    assert (await owner.types("python -c 'import cowsays; cowsays.main()'")).startswith("/home/jovyan/.local/lib/")
    assert (await owner.types("cowsays")).startswith("/home/jovyan/.local/lib/"), "programs are found, too"
    assert await owner.types("bash -lc cowsays") == await owner.types("cowsays"), "also in JupyterLab's terminal"


CONDA = "conda create --yes --quiet --offline --override-channels -c file://$HOME/channel -n herd lowing"
PIPX = "PIPX_DISABLE_SHARED_LIBS_AUTO_UPGRADE=1 pipx install --pip-args=--no-index ./cowsays-1.0-py3-none-any.whl"
RENV = """mkdir project && cd project && Rscript -e '
  options(renv.consent = TRUE, repos = c(CRAN = paste0("file://", Sys.getenv("HOME"), "/repository")))
  renv::init(bare = TRUE, restart = FALSE)
  renv::install("moos", prompt = FALSE)'"""
IN_PROJECT = """cd project && Rscript -e '
  cat(moos::moo(), normalizePath(find.package("moos")), Sys.getenv("RENV_PROJECT"))'"""


@pytest.mark.parametrize("owner", [*PYTHON, "rstudio"], indirect=True)
async def test_what_conda_pipx_and_renv_install_is_there_at_the_next_launch(owner: Owner, tmp_path: Path) -> None:
    """With all that they have downloaded and built; each would have put it elsewhere in one of these images."""
    shutil.copytree(write_channel(tmp_path), owner.home / "channel")
    shutil.copytree(write_repository(tmp_path), owner.home / "repository")
    for script in (CONDA, PIPX, RENV):
        await owner.types(script)
    await owner.relaunch()
    everywhere, here = f"/home/{owner.person.me['username']}", HOMES[owner.environment]
    assert "lowing" in await owner.types("conda list -n herd")
    assert await owner.types(".conda/envs/herd/bin/lowing") == "lowing in .conda/envs/herd/bin/lowing"
    assert (owner.home / ".conda" / "pkgs" / "lowing-1.0-0" / "info" / "index.json").is_file()
    found = await owner.types("bash -lc cowsays")
    assert found.startswith(f"{everywhere}/.local/share/pipx/venvs/cowsays/"), found
    assert "cowsays" in await owner.types("pipx list --short")
    said, where, project = (await owner.types(IN_PROJECT)).splitlines()[-1].split()
    assert said == "moo"
    assert where.startswith(f"{everywhere}/.cache/R/renv/cache/"), where
    assert project == f"{here}/project"


@pytest.mark.parametrize("owner", PYTHON, indirect=True)
async def test_virtual_and_conda_environments_install_into_themselves(owner: Owner) -> None:
    """Both look to pip like another Python; neither is led into ~/.local."""
    await owner.types(
        "python -m venv --without-pip v"
        " && mkdir -p .conda/envs/c/bin .conda/envs/c/lib && cp /opt/conda/bin/python3.11 .conda/envs/c/bin/python"
        " && ln -s /opt/conda/lib/python3.11 .conda/envs/c/lib/python3.11"
    )
    for folder in ("v", ".conda/envs/c"):
        await owner.types(f"pip --python {folder}/bin/python install --no-index cowsays-1.0-py3-none-any.whl")
    assert not (owner.home / ".local" / "lib").exists()
    await owner.relaunch()
    for folder in ("v", ".conda/envs/c"):
        found = await owner.types(f"{folder}/bin/python -c 'import cowsays; cowsays.main()'")
        assert found.startswith(f"/home/jovyan/{folder}/"), found


@pytest.mark.parametrize("owner", PYTHON, indirect=True)
async def test_pip_can_install_into_a_folder_that_is_named(owner: Owner) -> None:
    """With --target; where pip is led into the home by settings, they have to be set aside for it."""
    aside = "--no-user " if owner.environment == "shared-lab" else ""
    await owner.types(f"pip install --no-index {aside}--target lib cowsays-1.0-py3-none-any.whl")
    assert (owner.home / "lib" / "cowsays.py").is_file()


@pytest.mark.parametrize("owner", [*PYTHON, "rstudio"], indirect=True)
async def test_what_r_installs_is_there_at_the_next_launch(owner: Owner) -> None:
    """In a terminal, and in an R that knows nothing of the container's variables but what the image gives R."""
    variables = owner.environment != "rstudio"
    await owner.types("Rscript -e 'install.packages(\"moos_1.0.tar.gz\", repos = NULL)'", variables=variables)
    await owner.types("R CMD INSTALL cows_1.0.tar.gz", variables=variables)
    await owner.relaunch()
    for name in ("moos", "cows"):
        say = f"Rscript -e 'cat({name}::moo(), dirname(find.package(\"{name}\")))'"
        said, where = (await owner.types(say, variables=variables)).split()
        assert said == "moo"
        version = re.escape(await owner.types("Rscript -e 'cat(R.version$major)'"))
        assert re.fullmatch(rf"{HOMES[owner.environment]}/R/[a-z0-9_-]+-library/{version}\.[0-9]+", where), where


@pytest.mark.parametrize("owner", ["rstudio"], indirect=True)
async def test_the_images_own_profile_and_the_users_settings_are_respected(owner: Owner) -> None:
    """The image's Rprofile.site runs; a library that a user or renv puts first stays first; --vanilla is plain R."""
    ask = 'Rscript -e \'cat(getOption("made.by"), .libPaths()[1], sep = "|")\''
    by, first = (await owner.types(ask, variables=False)).split("|")
    assert by == "the image"
    assert first.startswith("/home/rstudio/R/")
    await owner.types("mkdir -p mine renv")
    assert (await owner.types(f"R_LIBS=~/renv {ask}", variables=False)).endswith("|/home/rstudio/renv")
    await owner.types("echo '.libPaths(\"~/mine\")' > .Rprofile")
    assert (await owner.types(ask, variables=False)).endswith("|/home/rstudio/mine")
    vanilla = await owner.types("R --vanilla --no-echo -e 'cat(is.null(getOption(\"made.by\")))'", variables=False)
    assert vanilla == "TRUE"
    await owner.types("rm .Rprofile")


@pytest.mark.parametrize("owner", ["rstudio"], indirect=True)
async def test_r_starts_without_the_owners_library_in_safe_mode(owner: Owner) -> None:
    """And with none at all where the home takes nothing more, or is read-only."""
    ask = "Rscript -e 'cat(.libPaths(), sep = \"|\")'"
    assert "/home/" in await owner.types(ask, variables=False)
    assert "/home/" not in await owner.types(f"LAUNCHPAD_SAFE_MODE=1 {ask}", variables=False)
    assert "/usr/lib/R/library" in await owner.types(f"R_LIBS_USER=/proc/no/library {ask}", variables=False)


async def test_versions_are_read_from_images_and_what_was_left_behind_is_told(live: LivePlatform) -> None:
    """By the programs that each image's PATH finds; on the dashboard, and once in a terminal."""
    async with live.person(f"owner{secrets.token_hex(4)}@example.org") as person:
        owner = Owner(person, "rstudio")
        await owner.launch()
        version = await owner.types('Rscript -e \'cat(R.version$major, sub("[.].*", "", R.version$minor), sep = ".")\'')
        await owner.types("mkdir -p R/x86_64-pc-linux-gnu-library/3.6/moos")
        told = await owner.types("bash -lic true")
        assert f"R is {version} here. Packages that you installed for R 3.6 are still in your home" in told
        assert "R is" not in await owner.types("bash -lic true")
        await person.stop(owner.instance["id"])
        async with asyncio.timeout(300):
            while not (found := (await person.http.get("/api/v1/home/libraries")).json()):
                await asyncio.sleep(1)
        assert [(one["environment"], one["installed_for"], one["version"]) for one in found] == [
            ("rstudio", "3.6", version)
        ]
        dashboard = await person.http.get("/dashboard")
        assert f"RStudio has R {version} now. One package that you installed for R 3.6" in dashboard.text
    engine = EngineRuntime(EngineSettings(), live.deployment_id)
    try:
        assert await engine.image_languages(await asyncio.to_thread(stacks)) == {"R": version, "Python": "3.11"}
        assert (await engine.image_languages(await asyncio.to_thread(rocker)))["R"] == version
    finally:
        await engine.aclose()
    assert not docker("ps", "--all", "--quiet", "--filter", "name=launchpad-look-"), "nothing is left of the look"


@pytest.mark.parametrize("owner", ["jupyterlab"], indirect=True)
async def test_start_up_files_and_renviron_of_the_user_win(owner: Owner) -> None:
    """Over every variable by which the platform leads programs into the home."""
    await owner.types(
        "mkdir -p mine; echo 'RENV_PATHS_ROOT=~/mine/renv' > .Renviron; echo 'R_LIBS_USER=~/mine/R' >> .Renviron;"
        " echo 'export PIPX_HOME=$HOME/mine/pipx PATH=$HOME/mine/bin:$PATH' > .bash_profile;"
        " mkdir -p .config/pip; printf '[global]\\ncache-dir = %s/mine/pip\\n' $HOME > .config/pip/pip.conf;"
        " printf 'pkgs_dirs:\\n  - %s/mine/conda\\n' $HOME > .condarc"
    )
    home = "/home/jovyan/mine"
    assert await owner.types("bash -lc '/opt/conda/bin/pipx environment --value PIPX_HOME'") == f"{home}/pipx"
    assert (await owner.types("bash -lc 'echo $PATH'")).startswith(f"{home}/bin:")
    assert await owner.types("pip cache dir") == f"{home}/pip"
    said = await owner.types("Rscript -e 'cat(.libPaths()[1], Sys.getenv(\"RENV_PATHS_ROOT\"))'")
    assert said == f"{home}/R ~/mine/renv"
    assert f"- {home}/conda" in await owner.types("conda config --show pkgs_dirs")
