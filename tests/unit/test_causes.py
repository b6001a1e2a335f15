"""What ended an application, told from its output: a table of outputs as the applications write them."""

from __future__ import annotations

import pytest

from launchpad.domain.causes import CauseKind, likely_cause

BROKEN_SERVER = """\
Executing the command: jupyter lab
Traceback (most recent call last):
  File "/usr/local/bin/jupyter-lab", line 5, in <module>
    from jupyterlab.labapp import main
  File "/usr/local/lib/python3.11/dist-packages/jupyterlab/__init__.py", line 8, in <module>
    from .handlers.announcements import (
  File "/usr/local/lib/python3.11/dist-packages/jupyterlab/handlers/announcements.py", line 14, in <module>
    from jupyter_server.base.handlers import APIHandler
  File "/home/jovyan/.local/lib/python3.11/site-packages/jupyter_server/__init__.py", line 1, in <module>
    raise ImportError("on purpose")
ImportError: on purpose
"""
SHADOWED = """\
Traceback (most recent call last):
  File "/opt/conda/bin/jupyter-lab", line 6, in <module>
    from jupyterlab.labapp import main
ImportError: cannot import name 'x' from 'traitlets' (/home/ada/.local/lib/python3.11/site-packages/traitlets/a.py)
"""
CHAINED = """\
Traceback (most recent call last):
  File "/home/alice/.local/lib/python3.12/site-packages/numpy/core/__init__.py", line 24, in <module>
    from . import multiarray
ImportError: libopenblas.so.0: cannot open shared object file

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/opt/conda/bin/jupyter-lab", line 6, in <module>
    import something
ImportError: numpy is broken
"""
CONDA_IN_HOME = """\
Traceback (most recent call last):
  File "/home/jovyan/envs/mine/lib/python3.10/site-packages/tornado/web.py", line 3, in <module>
SyntaxError: invalid syntax
"""
BROKEN_SETTINGS = """\
[E 2026-03-02 09:30:00.000 ServerApp] Exception while loading config file /home/jovyan/.jupyter/jupyter_server_config.py
    Traceback (most recent call last):
      File "/usr/local/lib/python3.11/dist-packages/traitlets/config/application.py", line 918, in _load_config_files
        config = loader.load_config()
      File "/usr/local/lib/python3.11/dist-packages/traitlets/config/loader.py", line 669, in _read_file_as_dict
        exec(compile(f.read(), conf_filename, "exec"), namespace, namespace)
      File "/home/jovyan/.jupyter/jupyter_server_config.py", line 1, in <module>
        raise ValueError("on purpose")
    ValueError: on purpose
"""
BAD_JSON = (
    "Bad config encountered during initialization: Failed loading config file /home/a/.jupyter/jupyter_config.json\n"
)
BAD_VALUE = (
    "[C 2026-03-02 09:30:00 ServerApp] Bad config encountered during initialization: The 'port' trait of a ServerApp "
    "instance expected an int, not the str 'x'.\n"
)
R_PROFILE = """\
Error in file(filename, "r", encoding = encoding) : cannot open the connection
Error in source("~/.Rprofile") : on purpose
Execution halted
"""
R_QUIT = "rsession: R ended as it read its profiles (~/.Rprofile, ~/.Renviron):\non purpose\n"
R_PACKAGE = """\
Error: package or namespace load failed for \u2018rlang\u2019 in dyn.load(file, DLLpath = DLLpath, ...):
 unable to load shared object '/home/rstudio/R/x86_64-pc-linux-gnu-library/4.4/rlang/libs/rlang.so':
  libR.so: cannot open shared object file
Execution halted
"""
FULL = """\
  File "/usr/lib/python3.11/site-packages/jupyter_core/paths.py", line 70, in secure_write
OSError: [Errno 28] No space left on device: '/home/jovyan/.local/share/jupyter/runtime'
"""
QUOTA = "cp: error writing '/home/a/x': Disk quota exceeded\n"
USER_PACKAGE_IN_A_FULL_HOME = BROKEN_SERVER + QUOTA
PORT = "rserver[134]: ERROR system error 98 (Address already in use); LOGGED FROM: int main(int, char* const*)\n" * 3
MEMORY = 'Traceback (most recent call last):\n  File "/app/x.py", line 1\nMemoryError\n'
R_MEMORY = "Error: cannot allocate vector of size 7.5 Gb\nExecution halted\n"
THREADS = "RuntimeError: can't start new thread\n"
PERMISSION = "PermissionError: [Errno 13] Permission denied: '/home/jovyan/.jupyter'\n"
SHELL = "/usr/local/bin/start.sh: line 12: exec: start-notebook.py: not found\n"
NO_FILE = "python3: can't open file '/opt/app/serve.py': [Errno 2] No such file or directory\n"
NO_MODULE = (
    "Traceback (most recent call last):\n  File \"/app/x.py\", line 1\nModuleNotFoundError: No module named 'flask'\n"
)
CALM = "[I 2026-03-02 09:30:00.000 ServerApp] Serving notebooks from local directory: /home/jovyan\n"


@pytest.mark.parametrize(
    ("log", "kind", "words"),
    [
        (BROKEN_SERVER, CauseKind.PACKAGE, "the Python package “jupyter_server” in your home folder"),
        (BROKEN_SERVER, CauseKind.PACKAGE, "ImportError: on purpose"),
        (SHADOWED, CauseKind.PACKAGE, "“traitlets”"),
        (CHAINED, CauseKind.PACKAGE, "“numpy”"),
        (CONDA_IN_HOME, CauseKind.PACKAGE, "“tornado”"),
        (BROKEN_SETTINGS, CauseKind.SETTINGS, "~/.jupyter/jupyter_server_config.py"),
        (BAD_JSON, CauseKind.SETTINGS, "~/.jupyter/jupyter_config.json"),
        (BAD_VALUE, CauseKind.SETTINGS, "(The 'port' trait of a ServerApp instance expected an int"),
        (R_PROFILE, CauseKind.SETTINGS, "~/.Rprofile"),
        (R_QUIT, CauseKind.SETTINGS, "~/.Rprofile"),
        (R_PACKAGE.replace("x86_64-pc-linux-gnu-library/4.4", "library-4.4"), CauseKind.PACKAGE, "“rlang”"),
        (R_PACKAGE, CauseKind.PACKAGE, "the R package “rlang”"),
        (FULL, CauseKind.HOME_FULL, "no space left in your home folder"),
        (QUOTA, CauseKind.HOME_FULL, "no space left"),
        (USER_PACKAGE_IN_A_FULL_HOME, CauseKind.HOME_FULL, "no space left"),
        (PORT, CauseKind.PORT, "port"),
        (MEMORY, CauseKind.MEMORY, "larger size"),
        (R_MEMORY, CauseKind.MEMORY, "larger size"),
        (THREADS, CauseKind.PROCESSES, "process or thread"),
        (PERMISSION, CauseKind.PERMISSION, "“/home/jovyan/.jupyter”"),
        (SHELL, CauseKind.MISSING, "“start-notebook.py”"),
        (NO_FILE, CauseKind.MISSING, "“/opt/app/serve.py”"),
        (NO_MODULE, CauseKind.MISSING, "“flask”"),
    ],
)
def test_a_cause_that_the_output_tells(log: str, kind: CauseKind, words: str) -> None:
    cause = likely_cause(CALM + log, exit_code=1)
    assert cause is not None
    assert cause.kind is kind, cause
    assert words in cause.text
    assert not cause.text.endswith("."), "it stands inside a sentence"
    assert cause.safe_mode_helps is (kind in (CauseKind.PACKAGE, CauseKind.SETTINGS))


@pytest.mark.parametrize("log", ["", CALM, "a fake instance prints nothing\n", CALM * 200])
def test_what_tells_nothing_is_not_guessed_at(log: str) -> None:
    assert likely_cause(log, exit_code=1) is None


@pytest.mark.parametrize(("exit_code", "kind"), [(127, CauseKind.MISSING), (126, CauseKind.PERMISSION)])
def test_a_shells_exit_codes_tell_of_the_command(exit_code: int, kind: CauseKind) -> None:
    cause = likely_cause("", exit_code=exit_code)
    assert cause is not None
    assert cause.kind is kind


def test_what_is_certain_goes_before_what_the_output_suggests() -> None:
    cause = likely_cause(BROKEN_SERVER, exit_code=137, out_of_memory=True)
    assert cause is not None
    assert cause.kind is CauseKind.MEMORY
    assert likely_cause(BROKEN_SERVER, exit_code=137, killed=True) is None, (
        "its output was written before somebody killed it"
    )


def test_a_package_of_the_image_is_not_the_users() -> None:
    log = 'Traceback (most recent call last):\n  File "/usr/lib/python3/dist-packages/x/y.py", line 1\nValueError: no\n'
    assert likely_cause(log, exit_code=1) is None


def test_a_long_message_is_cut() -> None:
    cause = likely_cause(BROKEN_SERVER.replace("on purpose", "x" * 5000), exit_code=1)
    assert cause is not None
    assert len(cause.text) < 300
