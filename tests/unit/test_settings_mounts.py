"""Shared data is seen nowhere that belongs to a home, to the system or to the platform."""

from __future__ import annotations

import pytest

from launchpad.errors import SettingsError
from launchpad.settings import Settings, tables


def mounted(*targets: str, home: str = "/srv/own") -> Settings:
    own = {"name": "own", "title": "Own", "image": "own:1", "port": 1, "home": home}
    names = ("census", "images", "third")
    mounts = [
        {"name": name, "source": "/srv/data", "target": target} for name, target in zip(names, targets, strict=False)
    ]
    return tables({"environments": [own], "mounts": mounts})


@pytest.mark.parametrize(
    "target", ["/data", "/data/", "/mnt/census", "/srv/data", "/srv/owner", "/opt/data", "/etc/krb5.conf", "/var/data"]
)
def test_a_place_of_its_own_is_taken(target: str) -> None:
    assert mounted(target).mounts[0].target == target


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/home/rstudio", "home folder of the environment “rstudio”"),
        ("/home/rstudio/shared", "home folder of the environment “rstudio”"),
        ("/home/jovyan/a/b/", "home folder of the environment “jupyterlab”"),
        ("//home/jovyan", "home folder of the environment “jupyterlab”"),
        ("/srv/own/data", "home folder of the environment “own”"),
        ("/srv", "home folder of the environment “own”"),
        ("/home", "home folder of the environment"),
        ("/home/alice/data", "below /home"),
        ("/home/shared", "below /home"),
        ("/", "whole image"),
        ("/.", "whole image"),
        ("/data/../home/rstudio", "must not contain"),
        ("/proc", "/proc"),
        ("/proc/cpuinfo", "/proc"),
        ("/sys/devices/system/cpu/online", "/sys"),
        ("/dev/shm", "/dev"),
        ("/opt/launchpad", "/opt/launchpad"),
        ("/opt/launchpad/R", "/opt/launchpad"),
        ("/opt", "/opt"),
        ("/usr", "hide what the image has"),
        ("/etc", "hide what the image has"),
        ("/etc/ssl/certs", "hide what the image has"),
        ("/etc/conda", "hide what the image has"),
        ("/etc/profile.d", "hide what the image has"),
    ],
)
def test_a_place_that_is_somebody_elses_is_refused_by_the_mounts_name(target: str, words: str) -> None:
    with pytest.raises(SettingsError, match="census") as refused:
        mounted(target)
    assert words in refused.value.detail
    assert target in refused.value.detail


def test_two_at_one_place_are_refused() -> None:
    with pytest.raises(SettingsError, match="that of “census”"):
        mounted("/data", "/data/")
