"""What programs are called to people: "STAR", "R: main.R", "Python: train.py", "notebook kernel (Python)"."""

from __future__ import annotations

import re
from collections.abc import Sequence

COMMAND_SHOWN = 120
NAME_SHOWN = 60

# Servers of the IDEs, and what starts them and looks after them: they serve pages and carry out nothing of a user's.
_INITS = frozenset({"tini", "docker-init", "dumb-init", "catatonit", "init", "s6-svscan", "s6-linux-init"})
_IDE_SERVERS = _INITS | frozenset(
    {
        *("jupyter-lab", "jupyter-labhub", "jupyter-notebook", "jupyter-server", "jupyterhub-singleuser"),
        *("rserver", "rserver-launcher", "code-server", "shiny-server"),
        *("s6-supervise", "start-notebook.py"),
    }
)
# What draws itself anew again and again, and only shows what others do.
_MONITORS = frozenset(
    {*("top", "htop", "btop", "atop", "glances", "nvtop", "nvidia-smi", "watch", "tmux: client", "tmux", "screen")}
)
_KERNEL_FILE = re.compile(r"kernel-[0-9a-f-]+\.json$")
_INTERPRETERS = {
    "bash": "Shell",
    "dash": "Shell",
    "sh": "Shell",
    "zsh": "Shell",
    "perl": "Perl",
    "ruby": "Ruby",
    "julia": "Julia",
    "node": "Node",
    "java": "Java",
    "Rscript": "R",
}
_PYTHON = re.compile(r"(python|pypy)[0-9.]*")
_WITH_VALUE = frozenset({"-W", "-X", "-cp", "-classpath", "--class-path", "-L", "-p", "-t", "--threads", "-J", "-I"})


def is_ide_server(comm: str, words: Sequence[str]) -> bool:
    """Whether a process is the IDE's own server.

    Args:
        comm: the kernel's name of it, of 15 letters at most.
        words: its command line.
    """
    if comm in _IDE_SERVERS:
        return True
    return any(_base(word) in _IDE_SERVERS for word in words[:3]) and not is_kernel(words)


def is_monitor(comm: str) -> bool:
    """Whether a program only watches others, or holds their terminals: it may stay open for days with nobody there."""
    return comm in _MONITORS


def is_init(comm: str, words: Sequence[str]) -> bool:
    """Whether a process is an init, which starts others and looks after them. Arguments as above."""
    return comm in _INITS or any(_base(word) in _INITS for word in words[:3])


def is_kernel(words: Sequence[str]) -> bool:
    """Whether a process is a kernel of Jupyter's, of whatever language: each is told the file of its connections."""
    return any(_KERNEL_FILE.search(word) for word in words)


def program_name(comm: str, words: Sequence[str]) -> str:
    """What a program is called; where an interpreter runs a script, by both their names."""
    name = _name(comm, words)
    plain = "".join(sign if sign.isprintable() else " " for sign in name).strip()
    return plain[:NAME_SHOWN] or "a program"


def shown_command(words: Sequence[str]) -> str:
    text = " ".join(words)
    return "".join(sign if sign.isprintable() else " " for sign in text[:COMMAND_SHOWN])


def _name(comm: str, words: Sequence[str]) -> str:
    if not words or not words[0]:
        return comm
    first = _base(words[0]).lstrip("-")  # log-in shells are called "-bash"
    python = _PYTHON.fullmatch(first) is not None
    if is_kernel(words):
        language = "Python" if python else "R" if first in ("R", "Rscript") else first
        return f"notebook kernel ({language})"
    if first == "rsession":
        return "R"
    if first == "R":
        return _of_r(words)
    interpreter = "Python" if python else _INTERPRETERS.get(first)
    if interpreter is None:
        return first
    script = _script(words[1:])
    if script is None:
        return interpreter if interpreter not in ("Shell", "Node", "Java") else first
    return f"{interpreter}: {_base(script)}"


def _of_r(words: Sequence[str]) -> str:
    for number, word in enumerate(words):
        if word.startswith("--file=") and word != "--file=":
            return f"R: {_base(word.removeprefix('--file='))}"
        if word == "-f" and number + 1 < len(words):
            return f"R: {_base(words[number + 1])}"
    return "R"


def _script(words: Sequence[str]) -> str | None:
    """The first argument that is none of the interpreter's own; None where it is given a program as text, or none."""
    rest = iter(words)
    for word in rest:
        if word in ("-m", "-jar"):
            return next(rest, None)
        if word in ("-c", "-e", "-E", "--eval", "-"):
            return None
        if word in _WITH_VALUE:
            next(rest, None)
        elif not word.startswith(("-", "+")):
            return word
    return None


def _base(word: str) -> str:
    return word.rstrip("/").rpartition("/")[2]
