"""Safe mode: an environment without what its user has installed and set, so that a broken part can be repaired. Pure.

The Home is there as ever; packages, profiles, settings and saved state in it are passed over, not touched. What an
application writes of its own goes to a temporary place and is gone with the instance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .environments import Environment

TEMPORARY = "/tmp/launchpad-safe-mode"  # noqa: S108 - in the container, which is the user's own

# For every environment; its own table `safe_mode` comes on top.
# R: a set but empty file means that none is read, and a library that does not exist is left out (?Startup, ?.libPaths).
# Jupyter: jupyter_core.paths and jupyterlab.commands. Files that belong to the image or the server are still read.
VARIABLES: Mapping[str, str] = {
    "LAUNCHPAD_SAFE_MODE": "1",
    "PYTHONNOUSERSITE": "1",
    "R_PROFILE_USER": "/dev/null",
    "R_ENVIRON_USER": "/dev/null",
    "R_LIBS_USER": f"{TEMPORARY}/R",
    "JUPYTER_CONFIG_DIR": f"{TEMPORARY}/jupyter/config",
    "JUPYTER_DATA_DIR": f"{TEMPORARY}/jupyter/data",
    "JUPYTER_RUNTIME_DIR": f"{TEMPORARY}/jupyter/runtime",
    "JUPYTER_PREFER_ENV_PATH": "1",
    "JUPYTERLAB_SETTINGS_DIR": f"{TEMPORARY}/jupyter/lab/settings",
    "JUPYTERLAB_WORKSPACES_DIR": f"{TEMPORARY}/jupyter/lab/workspaces",
    "IPYTHONDIR": f"{TEMPORARY}/ipython",
    "XDG_CONFIG_HOME": f"{TEMPORARY}/config",
    "XDG_DATA_HOME": f"{TEMPORARY}/data",
    "XDG_STATE_HOME": f"{TEMPORARY}/state",
    "XDG_CACHE_HOME": f"{TEMPORARY}/cache",
}


def in_safe_mode(environment: Environment) -> Environment:
    """The same environment with the variables and words of safe mode put over its own."""
    return replace(
        environment,
        env_vars={**environment.env_vars, **VARIABLES, **environment.safe_mode_env_vars},
        command=(*environment.command, *environment.safe_mode_command),
    )
