"""Recipes, hashes, certificates, and which image an environment gets."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from launchpad.domain.environments import Environment
from launchpad.errors import EngineRefused, ImageMissing, InvalidInput, SettingsError
from launchpad.ops import certificates
from launchpad.ops.certificates import site_certificates
from launchpad.runtime.fake import FakeRuntime
from launchpad.services.catalogue import environment_of
from launchpad.services.images import ImageService
from launchpad.services.recipes import LABEL_HASH, LABEL_RECIPE, LABEL_STAND_IN, needed, read_recipes, shipped_folder
from launchpad.settings import EnvironmentSettings, ImageSettings

PEM = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A base that a script makes, and one image on it."""
    base, top = tmp_path / "images" / "base", tmp_path / "images" / "top"
    base.mkdir(parents=True)
    top.mkdir()
    (base / "recipe.toml").write_text('title = "Base"\nkind = "rootfs"\nchanges = ["ENV A=1"]\n')
    (base / "build-rootfs").write_text('#!/bin/sh\necho making; ls "$EXTRA_CA_DIR"; : >"$1"\n')
    (base / "build-rootfs").chmod(0o755)
    (top / "recipe.toml").write_text('title = "Top"\nkind = "dockerfile"\nbase = "base"\nstand_in = true\n')
    (top / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n")
    return tmp_path / "images"


def environment(image: str = "wanted:1", build: str | None = "top") -> Environment:
    return environment_of(EnvironmentSettings(name="x", title="X", image=image, build=build, port=80, home="/home/x"))


def service(folder: Path, runtime: FakeRuntime) -> ImageService:
    return ImageService(runtime, ImageSettings(recipes=folder), site_certificates)


async def test_built_once_and_reused(folder: Path) -> None:
    """The base first; a second time nothing is built; a change of one byte builds what depends on it anew."""
    runtime = FakeRuntime("d")
    built = read_recipes(folder, [])
    runtime.missing_images |= {recipe.tag for recipe in built.values()}
    images = ImageService(runtime, ImageSettings(recipes=folder), site_certificates)
    site = certificates.site_certificates(())
    built = read_recipes(folder, site)
    runtime.missing_images |= {recipe.tag for recipe in built.values()}
    first = [progress.text async for progress in images.build()]
    assert [text.split(":")[0] for text in first if " built " in text] == ["base", "top"]
    assert any("making" in text for text in first)
    again = [progress.text async for progress in images.build()]
    assert all("already exists" in text for text in again)
    (folder / "base" / "build-rootfs").write_text('#!/bin/sh\n: >"$1"\n')
    changed = read_recipes(folder, site)
    assert all(changed[name].tag != built[name].tag for name in built)


def test_the_hash_counts_content_and_certificates_and_not_the_umask(folder: Path, tmp_path: Path) -> None:
    before = read_recipes(folder, [])["top"].hash
    assert read_recipes(folder, [PEM])["top"].hash != before
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for path in copy.rglob("*"):
        path.chmod(0o700 if path.is_dir() or path.stat().st_mode & 0o100 else 0o600)
    assert read_recipes(copy, [])["top"].hash == before
    (copy / "top" / "Dockerfile").chmod(0o755)
    assert read_recipes(copy, [])["top"].hash != before


async def test_a_script_that_fails_shows_its_last_lines(folder: Path) -> None:
    (folder / "base" / "build-rootfs").write_text("#!/bin/sh\necho the mirror is away; exit 4\n")
    runtime = FakeRuntime("d")
    runtime.missing_images |= {one.tag for one in read_recipes(folder, certificates.site_certificates(())).values()}
    with pytest.raises(EngineRefused, match="the mirror is away"):
        async for _ in service(folder, runtime).build(["base"]):
            pass


async def test_a_network_that_is_away_for_a_moment_fails_no_build(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again, and said so; a network that stays away fails it with what was printed."""
    monkeypatch.setattr("launchpad.services.images.AGAIN_AFTER_SECONDS", 0.0)
    tries = tmp_path / "tries"
    script = (
        f"#!/bin/sh\necho x >>{tries}\n"
        f'[ $(wc -l <{tries}) -ge $NEEDED ] || {{ echo "E: Failed to fetch it  Temporary failure"; exit 100; }}\n'
        ': >"$1"\n'
    )
    (folder / "base" / "build-rootfs").write_text(script)
    runtime = FakeRuntime("d")
    runtime.missing_images |= {one.tag for one in read_recipes(folder, certificates.site_certificates(())).values()}
    monkeypatch.setenv("NEEDED", "3")
    said = [progress.text async for progress in service(folder, runtime).build(["base"])]
    assert len([text for text in said if "trying again" in text]) == 2
    assert "built" in said[-1]

    tries.unlink()
    (folder / "base" / "build-rootfs").write_text(f"{script}# another\n")
    runtime.missing_images |= {one.tag for one in read_recipes(folder, certificates.site_certificates(())).values()}
    monkeypatch.setenv("NEEDED", "9")
    with pytest.raises(EngineRefused, match="Failed to fetch it"):
        async for _ in service(folder, runtime).build(["base"]):
            pass
    assert len(tries.read_text().split()) == 3


async def test_unknown_recipes_are_refused(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="base, top"):
        async for _ in service(folder, FakeRuntime("d")).build(["nonsense"]):
            pass
    with pytest.raises(SettingsError, match="no recipes"):
        read_recipes(folder / "top", [])
    (folder / "top" / "recipe.toml").write_text('base = "gone"\n')
    with pytest.raises(SettingsError, match="top"):
        read_recipes(folder, [])


async def test_the_configured_image_wins_and_a_stand_in_says_so(folder: Path) -> None:
    runtime = FakeRuntime("d", missing_images=frozenset({"wanted:1"}))
    async for _ in runtime.build_image(
        context_tar=folder,
        tag="launchpad/top:1",
        build_args={},
        labels={LABEL_RECIPE: "top", LABEL_HASH: "1", LABEL_STAND_IN: "true"},
    ):
        pass
    found = await service(folder, runtime).resolve(environment())
    assert (found.reference, found.stand_in) == ("launchpad/top:1", True)
    runtime.missing_images.clear()
    found = await service(folder, runtime).resolve(environment())
    assert (found.reference, found.stand_in) == ("wanted:1", False)


async def build(runtime: FakeRuntime, folder: Path, tag: str, recipe_hash: str) -> None:
    """Makes an image with the labels of the recipe `top` and any tag."""
    labels = {LABEL_RECIPE: "top", LABEL_HASH: recipe_hash, LABEL_STAND_IN: "true"}
    async for _ in runtime.build_image(context_tar=folder, tag=tag, build_args={}, labels=labels):
        pass


async def test_an_image_made_from_ours_takes_nobodys_place(folder: Path) -> None:
    """It inherits the labels and is newer; under whatever tag, only the recipe's own image is launched."""
    runtime = FakeRuntime("d", missing_images=frozenset({"wanted:1"}))
    await build(runtime, folder, "launchpad/top:aaaa", "aaaa")
    for tag in ("institute/special:1", "launchpad/top:latest", "launchpad/top:bbbb", "elsewhere/launchpad/top:aaaa"):
        await build(runtime, folder, tag, "aaaa")
    assert (await service(folder, runtime).resolve(environment())).reference == "launchpad/top:aaaa"


async def test_without_an_image_of_its_own_tag_there_is_none(folder: Path) -> None:
    runtime = FakeRuntime("d", missing_images=frozenset({"wanted:1"}))
    await build(runtime, folder, "institute/special:1", "aaaa")
    with pytest.raises(ImageMissing):
        await service(folder, runtime).resolve(environment())


async def test_the_recipe_as_it_is_now_goes_before_newer_builds_of_others(folder: Path) -> None:
    """As on a server where two versions of the program share an engine, or after a way back to an older one."""
    runtime = FakeRuntime("d", missing_images=frozenset({"wanted:1"}))
    now = read_recipes(folder, certificates.site_certificates(()))["top"]
    await build(runtime, folder, now.tag, now.hash)
    await build(runtime, folder, "launchpad/top:cccc", "cccc")
    assert (await service(folder, runtime).resolve(environment())).reference == now.tag
    (folder / "top" / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nRUN true\n")
    assert (await service(folder, runtime).resolve(environment())).reference == "launchpad/top:cccc", (
        "until it is built"
    )


async def test_neither_is_there(folder: Path) -> None:
    runtime = FakeRuntime("d", missing_images=frozenset({"wanted:1"}))
    for build in ("top", None):
        with pytest.raises(ImageMissing, match="images pull"):
            await service(folder, runtime).resolve(environment(build=build))
    rows = await service(folder, runtime).list([environment()])
    assert [(row.wanted, row.uses) for row in rows] == [("wanted:1", None)]


def test_certificates_of_the_site(tmp_path: Path) -> None:
    """Named ones first, then those added to this server, each once; a bundle holds them beside the system's."""
    local, named = tmp_path / "local", tmp_path / "named.pem"
    local.mkdir()
    other = PEM.replace("QUJD", "REVG")
    (local / "a.crt").write_text(other + PEM)
    named.write_text(f"words\n{PEM}")
    assert certificates.site_certificates((named,), local) == [PEM, other]
    base = tmp_path / "base.crt"
    base.write_text(other)
    bundle = certificates.write_bundle(tmp_path / "bundle.crt", [PEM, other], base)
    assert bundle is not None
    assert bundle.read_text() == other + PEM
    assert bundle.stat().st_mode & 0o777 == 0o644
    assert certificates.write_bundle(tmp_path / "none.crt", [], base) is None
    for broken in (tmp_path / "missing.pem", base.parent / "empty.pem"):
        (tmp_path / "empty.pem").write_text("no certificate")
        with pytest.raises(SettingsError, match=broken.name):
            certificates.site_certificates((broken,), local)


def test_shipped_recipes_are_whole() -> None:
    """Four, the stand-in labelled; each names what it is."""
    recipes = read_recipes(shipped_folder(), [])
    assert list(recipes) == ["base", "tools", "jupyterlab", "rstudio-standin"]
    assert [name for name, one in recipes.items() if one.stand_in] == ["rstudio-standin"]
    assert [one.name for one in needed(recipes, ["rstudio-standin"])] == ["base", "tools", "rstudio-standin"]
