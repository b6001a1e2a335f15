"""The catalogue's entries: their templates, and what ships."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.domain.environments import Placeholders, Prefix
from launchpad.errors import SettingsError
from launchpad.runtime.base import ContainerSpec
from launchpad.services.catalogue import catalogue_of, environment_of
from launchpad.services.composer import shared_with
from launchpad.services.specification import CACHE_VARIABLES, specification
from launchpad.settings import tables

VALUES = Placeholders(root_path="/i/abc", token="t0k3n", username="alice", uid=200001, home="/home/jovyan")


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("", ""),
        ("{root_path}/api", "/i/abc/api"),
        ("token {token}", "token t0k3n"),
        ("{uid}:{uid}", "200001:200001"),
        ("{username} in {home}", "alice in /home/jovyan"),
        ("{other} {} {{token}} {token", "{other} {} {t0k3n} {token"),
    ],
)
def test_a_template_is_filled_and_other_braces_stay(template: str, filled: str) -> None:
    assert VALUES.fill(template) == filled


@given(st.text(st.characters(exclude_characters="{")))
def test_a_text_without_opening_braces_stays_as_it_is(template: str) -> None:
    assert VALUES.fill(template) == template


def test_rstudio_and_jupyterlab_ship() -> None:
    catalogue = catalogue_of(tables({}))
    assert list(catalogue) == ["rstudio", "jupyterlab"]
    assert catalogue["rstudio"].prefix is Prefix.STRIP
    assert catalogue["jupyterlab"].prefix is Prefix.KEEP
    assert catalogue["rstudio"].image.startswith("rocker/rstudio:")
    assert catalogue["jupyterlab"].image.startswith("jupyter/datascience-notebook:")


@pytest.mark.parametrize("name", ["rstudio", "jupyterlab"])
def test_what_ships_names_a_tag_a_recipe_and_only_known_placeholders(name: str) -> None:
    shipped = catalogue_of(tables({}))[name]
    assert ":" in shipped.image
    assert not shipped.image.endswith(":latest")
    assert shipped.build
    texts = [
        shipped.user,
        shipped.health_path,
        shipped.start_path,
        *shipped.command,
        *shipped.env_vars.values(),
        *shipped.request_headers.values(),
    ]
    assert not any("{" in VALUES.fill(text) for text in texts)


@pytest.mark.parametrize("name", ["rstudio", "jupyterlab"])
def test_what_ships_keeps_only_capabilities_that_change_files_and_users(name: str) -> None:
    harmless = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID"}
    assert set(catalogue_of(tables({}))[name].capabilities) <= harmless


def test_an_entry_that_is_off_is_not_offered() -> None:
    catalogue = catalogue_of(tables({"environments": [{"name": "rstudio", "enabled": False}]}))
    assert list(catalogue) == ["jupyterlab"]


def test_every_key_of_an_entry_reaches_the_domain() -> None:
    entry = {
        "name": "own",
        "title": "Own",
        "description": "mine",
        "image": "own:1",
        "build": "own",
        "port": 1234,
        "home": "/home/own",
        "prefix": "keep",
        "health_path": "{root_path}/ok",
        "start_path": "/go",
        "user": "{uid}:{uid}",
        "groups": ["100"],
        "command": ["run"],
        "env_vars": {"A": "b"},
        "request_headers": {"X-A": "b"},
        "capabilities": ["CHOWN"],
        "python_prefixes": ["/opt/own"],
        "package_cache": "/data/cache",
        "gpus": ["0", "GPU-3f2a"],
        "bookmark_paths": {"/old": "/new"},
        "messages_thaw": False,
        "pids_limit": 64,
        "shared_memory_percent": 80,
        "stop_grace_seconds": 5,
        "start_timeout_seconds": 9,
        "calls_when_ended": 404,
        "failure_patterns": ["cannot bind"],
        "person": {"requests": ["POST /run"], "quiet_header": "X-Quiet"},
        "safe_mode": {"env_vars": {"PLAIN": "1"}, "command": ["--plain"]},
    }
    own = environment_of(next(one for one in tables({"environments": [entry]}).environments if one.name == "own"))
    told = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(own).items()}
    safe_mode = {"env_vars": told.pop("safe_mode_env_vars"), "command": told.pop("safe_mode_command")}
    told["person"] = {"requests": list(own.person.requests), "quiet_header": own.person.quiet_header}
    assert told | {"safe_mode": safe_mode} == entry


def test_the_size_stands_in_variables_and_commands() -> None:
    """Whole cores, so that no program starts more threads than its size has; every environment's own wins."""
    table = {
        "name": "own",
        "title": "Own",
        "image": "own:1",
        "port": 1,
        "home": "/home/own",
        "command": ["run", "--threads={cpus}", "--heap={memory_bytes}"],
        "env_vars": {"GOMAXPROCS": "7", "R_PROFILE": "", "EMPTY": ""},
    }
    spec = specified("own", {"environments": [table]}, cpus=1.5)
    assert spec.command == ("run", "--threads=2", f"--heap={1024**3}")
    assert {name: spec.env_vars[name] for name in ("OMP_NUM_THREADS", "MC_CORES", "GOMAXPROCS")} == {
        "OMP_NUM_THREADS": "2",
        "MC_CORES": "2",
        "GOMAXPROCS": "7",
    }
    assert "R_PROFILE" not in spec.env_vars, "an empty one takes away what every environment has"
    assert spec.env_vars["EMPTY"] == "", "one of its own stays"


def specified(name: str, settings: Mapping[str, object], cpus: float = 1, lab: str | None = None) -> ContainerSpec:
    read = tables(settings)
    environment = catalogue_of(read)[name]
    site = read.images.cran_mirror, read.images.zone
    return specification(
        environment,
        Placeholders("/i/abc", "t", "alice", 200001, environment.home, "https://lab.example.org/dashboard", *site),
        instance_id="a" * 16,
        owner_id="b" * 16,
        image=environment.image,
        memory_bytes=1024**3,
        cpus=cpus,
        home=Path("/srv/homes/alice"),
        shared=shared_with(read, lab),
    )


def test_what_pipx_and_renv_make_lies_in_the_home_by_a_path_that_every_environment_has() -> None:
    """pipx's programs and renv's projects name it in what they write."""
    for name in ("rstudio", "jupyterlab"):
        spec = specified(name, {})
        assert spec.env_vars["PIPX_HOME"] == "/home/alice/.local/share/pipx"
        assert spec.env_vars["PIPX_BIN_DIR"] == "/home/alice/.local/bin"
        assert spec.env_vars["RENV_PATHS_ROOT"] == "/home/alice/.cache/R/renv"
        assert "/home/alice" in {mount.target for mount in spec.mounts}
        assert not set(spec.env_vars) & set(CACHE_VARIABLES), "a user's own files decide"


@pytest.mark.parametrize(
    ("folder", "lab", "at"),
    [
        ("/data/geo/cache", "geo", "/data/geo/cache"),
        ("/data/geo/cache", "other", None),  # does not have that mount
        ("/data/all", "geo", None),  # cannot be written
        ("/data/geometry", "geo", None),
        ("{home}/caches", None, "/home/jovyan/caches"),
        ("/home/{username}/lab-geo/cache", "geo", "/home/alice/lab-geo/cache"),
        ("/opt/cache", "geo", None),  # would be gone with the container
        ("", "geo", None),
    ],
)
def test_caches_lie_where_the_settings_say_if_the_owner_can_write_there(
    folder: str, lab: str | None, at: str | None
) -> None:
    mounts = [
        {"name": "geo", "source": "/srv/geo", "target": "/data/geo", "mode": "rw", "labs": ["geo"]},
        {"name": "all", "source": "/srv/all", "target": "/data/all", "mode": "ro"},
    ]
    chosen = {"environments": [{"name": "jupyterlab", "package_cache": folder}], "mounts": mounts}
    found = specified("jupyterlab", chosen, lab=lab).env_vars
    wanted = {name: f"{at}/{each}" for name, each in CACHE_VARIABLES.items()} if at else {}
    assert {name: value for name, value in found.items() if name in CACHE_VARIABLES} == wanted


@pytest.mark.parametrize("folder", ["cache", "/data/../etc", "{home}", "/", "/data/\nx", "{username}/x", "/data/./x"])
def test_a_folder_for_caches_is_an_absolute_path(folder: str) -> None:
    with pytest.raises(SettingsError, match="package_cache"):
        tables({"environments": [{"name": "jupyterlab", "package_cache": folder}]})


def test_shared_memory_is_half_of_the_memory_unless_an_environment_says_otherwise() -> None:
    assert specified("jupyterlab", {}).shm_bytes == specified("rstudio", {}).shm_bytes == 1024**3 // 2
    other = {"environments": [{"name": "jupyterlab", "shared_memory_percent": 80}]}
    assert specified("jupyterlab", other).shm_bytes == 1024**3 * 80 // 100


@pytest.mark.parametrize("name", ["rstudio", "jupyterlab"])
def test_nothing_is_left_open_in_what_ships(name: str) -> None:
    spec = specified(name, {})
    assert not any("{" in text for text in (spec.user, *spec.command, *spec.env_vars.values()))
    assert spec.env_vars["LAUNCHPAD_DASHBOARD_URL"] == "https://lab.example.org/dashboard"


def test_programs_in_the_home_come_first_but_never_for_root() -> None:
    """An init that runs as root must not run what the owner has put there."""
    assert specified("jupyterlab", {}).first_in_path == "/home/jovyan/.local/bin"
    assert specified("rstudio", {}).first_in_path == ""
    safe = {"environments": [{"name": "jupyterlab", "env_vars": {"LAUNCHPAD_SAFE_MODE": "1"}}]}
    assert specified("jupyterlab", safe).first_in_path == ""


def test_rstudio_is_not_killed_while_it_saves() -> None:
    """The engine's patience is longer than all that the image's init takes at most, and leaves it time to end."""
    rstudio = catalogue_of(tables({}))["rstudio"]
    init_seconds = sum(int(rstudio.env_vars[f"S6_{name}_GRACETIME"]) for name in ("SERVICES", "KILL")) / 1000
    assert init_seconds + 5 <= rstudio.stop_grace_seconds
    assert int(rstudio.env_vars["S6_KILL_GRACETIME"]) <= 1000, "the init sleeps for so long at every stop"
    assert int(rstudio.env_vars["S6_SERVICES_GRACETIME"]) >= 10_000, "a large session is saved for so long"


def test_rstudio_gets_its_uid_without_the_init_that_would_change_the_home() -> None:
    spec = specified("rstudio", {})
    assert not {"USERID", "GROUPID", "DEFAULT_USER"} & set(spec.env_vars)
    assert spec.command[1:5] == ("/opt/launchpad/bin/with-user", "rstudio", "200001", "200001")
    assert spec.command[-3:] == ("/opt/launchpad/bin/with-room", "/home/rstudio", "/init")


@pytest.mark.parametrize(
    "changed", [{"health_path": "/{cpus}"}, {"start_path": "/{memory_bytes}"}, {"request_headers": {"X-A": "{cpus}"}}]
)
def test_the_size_stands_nowhere_else(changed: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match="command and env_vars only"):
        tables({"environments": [{"name": "rstudio", **changed}]})


def test_the_sites_mirror_and_time_zone_reach_every_environment() -> None:
    """Pulled, built or brought along; what the owner of the settings says of one entry wins."""
    images: dict[str, object] = {"images": {"cran_mirror": "https://cran.example.org/", "time_zone": "Asia/Singapore"}}
    spec = specified("jupyterlab", images)
    assert spec.env_vars["TZ"] == "Asia/Singapore"
    assert spec.env_vars["LAUNCHPAD_CRAN_MIRROR"] == "https://cran.example.org"
    assert spec.env_vars["JUPYTER_RUNTIME_DIR"] == "/tmp/jupyter-runtime", "not in the home, which may be full"
    assert specified("rstudio", images).env_vars["TZ"] == "Asia/Singapore"
    own: dict[str, object] = {"environments": [{"name": "rstudio", "env_vars": {"TZ": "Etc/UTC"}}]}
    assert specified("rstudio", images | own).env_vars["TZ"] == "Etc/UTC"
