"""Who is told that another version of R or Python left behind what they have installed, and when no more."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from importlib import resources
from pathlib import Path

import pytest

from launchpad.domain.instances import State
from launchpad.domain.libraries import LibraryChange, changes_of
from launchpad.domain.users import User
from launchpad.errors import EngineUnavailable
from launchpad.platform import Platform
from support.platforms import ACTOR, World, launch, reaches, sign_in

RSTUDIO = {"R": ("4.2", "4.6")}
BOTH = {"rstudio": {"R": ("4.2", "4.6")}, "jupyterlab": {"R": ("4.2",), "Python": ("3.11",)}}


@pytest.mark.parametrize(
    ("libraries", "versions", "told"),
    [
        ({"R": {"4.2": 3}}, {"rstudio": RSTUDIO}, [("rstudio", "R", "4.2", "4.6", 3)]),
        ({"R": {"4.2": 3, "4.6": 1}}, {"rstudio": RSTUDIO}, []),  # installed again
        ({"R": {"4.6": 1}}, {"rstudio": RSTUDIO}, []),
        ({"R": {"4.2": 0}}, {"rstudio": RSTUDIO}, []),
        ({}, {"rstudio": RSTUDIO}, []),
        ({"Python": {"3.9": 2}}, {"rstudio": RSTUDIO}, []),  # it has no Python
        # JupyterLab still uses it, and RStudio did before.
        ({"R": {"4.2": 3}}, BOTH, [("rstudio", "R", "4.2", "4.6", 3)]),
        # RStudio's; JupyterLab never had R 4.6.
        ({"R": {"4.6": 3}}, BOTH, []),
        # Of before the versions were noted: nobody has it any more.
        ({"R": {"4.1": 3}}, {"rstudio": {"R": ("4.6",)}}, [("rstudio", "R", "4.1", "4.6", 3)]),
        ({"R": {"4.9": 1, "4.10": 2}}, {"rstudio": {"R": ("4.11",)}}, [("rstudio", "R", "4.10", "4.11", 2)]),
        # Back to an older one.
        ({"R": {"4.6": 3}}, {"rstudio": {"R": ("4.6", "4.2")}}, [("rstudio", "R", "4.6", "4.2", 3)]),
        ({"Python": {"3.10": 2}}, BOTH, [("jupyterlab", "Python", "3.10", "3.11", 2)]),
    ],
)
def test_what_was_installed_for_a_version_that_is_gone_is_told(
    libraries: Mapping[str, Mapping[str, int]],
    versions: Mapping[str, Mapping[str, tuple[str, ...]]],
    told: list[tuple[str, str, str, str, int]],
) -> None:
    assert changes_of(libraries, versions, {"rstudio", "jupyterlab"}) == tuple(LibraryChange(*one) for one in told)
    assert changes_of(libraries, versions, {"other"}) == ()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    await world.close()


def install(home: Path, uid: int, *paths: str) -> None:
    for path in paths:
        (home / path).mkdir(parents=True)
    for folder, names, files in os.walk(home):
        for name in (*names, *files):
            os.chown(Path(folder, name), uid, uid, follow_symlinks=False)


async def told(platform: Platform, user: User, *environments: str) -> list[tuple[str, str, str, int]]:
    changes = await platform.libraries.changes(user, environments or ("rstudio",))
    return [(one.environment, one.before, one.now, one.packages) for one in changes]


@pytest.mark.root
async def test_a_home_is_looked_at_however_short_its_instance_lived(world: World) -> None:
    """All of it between two passes."""
    platform = await world.open()
    user, _ = await sign_in(platform, "anna@example.org")
    image = (await platform.live.images.of("rstudio")).image
    assert image is not None
    world.runtime.languages[image.reference] = {"R": "4.6"}
    for _ in range(2):  # everybody had a turn
        await platform.libraries.run(world.clock.now)
        world.clock.now += timedelta(seconds=20)
    instance = await launch(platform, user, "rstudio")
    await reaches(platform, instance.id, State.RUNNING)
    install(world.homes_root / "anna", user.uid, "R/x86_64-pc-linux-gnu-library/4.2/moos")
    await platform.instances.stop(instance.id, user, ACTOR, world.clock.now)
    await reaches(platform, instance.id, State.STOPPED)
    await platform.libraries.run(world.clock.now)
    assert await told(platform, user) == [("rstudio", "4.2", "4.6", 1)]


@pytest.mark.root  # files are their owners'
async def test_an_image_with_another_version_is_told_of_until_packages_are_installed_again(world: World) -> None:
    """Without anything being started; what is dismissed stays so, and the next change is told."""
    platform = await world.open()
    user, _ = await sign_in(platform, "anna@example.org")
    library = "R/x86_64-pc-linux-gnu-library"
    image = (await platform.live.images.of("rstudio")).image
    assert image is not None
    world.runtime.languages[image.reference] = {"R": "4.2"}
    instance = await launch(platform, user, "rstudio")
    await reaches(platform, instance.id, State.RUNNING)
    home = world.homes_root / "anna"
    install(home, user.uid, f"{library}/4.2/moos", f"{library}/4.2/cows", f"{library}/4.2/00LOCK-x")
    await platform.libraries.run(world.clock.now)
    assert await told(platform, user) == []
    await platform.instances.stop(instance.id, user, ACTOR, world.clock.now)
    await reaches(platform, instance.id, State.STOPPED)

    world.runtime.languages[image.reference] = {"R": "4.6"}
    world.clock.now += timedelta(hours=2)
    started = list(world.runtime.starts)
    await platform.libraries.run(world.clock.now)
    assert await told(platform, user) == [("rstudio", "4.2", "4.6", 2)]
    assert await told(platform, user, "jupyterlab") == []
    assert world.runtime.starts == started

    (change,) = await platform.libraries.changes(user, ["rstudio"])
    await platform.libraries.dismiss(user, change.key)
    assert await told(platform, user) == []
    world.runtime.languages[image.reference] = {"R": "4.7"}
    world.clock.now += timedelta(hours=2)
    again = await world.open()  # another process, which takes over
    await again.libraries.run(world.clock.now)
    assert await told(again, user) == [("rstudio", "4.2", "4.7", 2)]
    install(home, user.uid, f"{library}/4.7/moos")
    third = await world.open()
    await third.libraries.run(world.clock.now)
    assert await told(third, user) == []


@pytest.mark.root  # files are their owners'
async def test_homes_are_only_looked_into_and_one_that_fails_holds_up_no_other(world: World) -> None:
    """Odd names, links and what is no folder are passed over."""
    platform = await world.open()
    users = {}
    for name in ("anna", "bert", "carl"):
        users[name], _ = await sign_in(platform, f"{name}@example.org")
        if name != "carl":  # has no home yet, and gets none by this
            await reaches(platform, (await launch(platform, users[name])).id, State.RUNNING)
    home = world.homes_root / "anna"
    site = ".local/lib/python3.9/site-packages"
    install(home, users["anna"].uid, f"{site}/a-1.dist-info", f"{site}/a", "R/library-4.0/old", "R/odd/9.9/x", "out")
    (home / "R" / "y-library").symlink_to("/etc")
    (home / "R" / "z-library").write_text("")
    (home / ".local/lib/python3.8").symlink_to("../../out")
    os.chown(world.homes_root / "bert", 0, 0)
    await platform.libraries.run(world.clock.now)
    found = await platform.files.libraries(users["anna"])
    assert found == {"R": {"4.0": 1}, "Python": {"3.9": 1}}
    kept = await platform.libraries._kept(users["anna"].id)
    assert kept is not None
    assert kept.found == found
    assert not (world.homes_root / "carl").exists()


async def test_without_an_engine_it_is_tried_again(world: World) -> None:
    platform = await world.open()
    assert (await platform.live.images.of("rstudio")).image is not None
    world.runtime.go_down()
    with pytest.raises(EngineUnavailable):
        await platform.libraries.run(world.clock.now)
    world.runtime.come_back()
    await platform.libraries.run(world.clock.now)


def notice(folder: Path, home: Path) -> str:
    """What a terminal says in an image with R 4.6 and Python 3.13."""
    script = resources.files("launchpad") / "kit" / "bin" / "library-notice"
    variables = {"HOME": str(home), "PATH": f"{folder}/bin:/usr/bin:/bin"}
    done = subprocess.run(["sh", str(script)], env=variables, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def test_a_terminal_says_it_once(tmp_path: Path) -> None:
    """And nothing where there is nothing to say, or nothing can be noted."""
    image, home = tmp_path / "image", tmp_path / "home with spaces"
    base = image / "lib" / "R" / "library" / "base"
    for folder in (image / "bin", base, home):
        folder.mkdir(parents=True)
    (base / "DESCRIPTION").write_text("Package: base\nVersion: 4.6.1\n")
    (image / "bin" / "R").write_text(f"#!/bin/sh\nR_HOME_DIR={image}/lib/R\n")
    (image / "bin" / "R").chmod(0o755)
    (image / "bin" / "python3.13").write_text("")
    (image / "bin" / "python3.13").chmod(0o755)
    (image / "bin" / "python3").symlink_to("python3.13")
    library = home / "R" / "x86_64-pc-linux-gnu-library"
    assert notice(image, home) == ""
    (library / "4.2" / "moos").mkdir(parents=True)
    (library / "4.10").mkdir()
    (home / ".local/lib/python3.9/site-packages/a-1.dist-info").mkdir(parents=True)
    home.chmod(0o500)
    if os.geteuid() != 0:
        assert notice(image, home) == "", "it would be said at every start"
    home.chmod(0o700)
    told = notice(image, home)
    assert "Python is 3.13 here. Packages that you installed for Python 3.9" in told
    assert "R is 4.6 here. Packages that you installed for R 4.2" in told
    assert 'install.packages(setdiff(basename(Sys.glob("~/R/*-library/4.2/*"))' in told
    assert notice(image, home) == ""
    (library / "4.6" / "moos").mkdir(parents=True)
    (home / ".local" / "state" / "launchpad" / "R-4.2-4.6").unlink()
    assert notice(image, home) == "", "installed again"
