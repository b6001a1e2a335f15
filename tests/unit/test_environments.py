"""The catalogue's entries: their templates, and what ships."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launchpad.domain.environments import Placeholders, Prefix
from launchpad.services.catalogue import catalogue_of, environment_of
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
        "gpus": ["0", "GPU-3f2a"],
        "pids_limit": 64,
        "stop_grace_seconds": 5,
        "start_timeout_seconds": 9,
    }
    own = environment_of(next(one for one in tables({"environments": [entry]}).environments if one.name == "own"))
    told = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(own).items()}
    assert told == entry
