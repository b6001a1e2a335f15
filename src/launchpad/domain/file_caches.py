"""Caches in a home that can be emptied without a loss, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cache:
    """Attributes:
    paths: folders below the home; what lies in them goes, they stay.
    cost: a sentence for whoever is about to empty it.
    """

    name: str
    title: str
    paths: tuple[str, ...]
    cost: str
    is_trash: bool = False


DOWNLOADED = "What is installed stays. The next installation downloads again what it needs."
CACHES = (
    Cache("trash", "Trash", (".local/share/Trash",), "What lies in the Trash is deleted for ever.", is_trash=True),
    Cache("pip", "pip", (".cache/pip",), DOWNLOADED),
    Cache("uv", "uv", (".cache/uv",), DOWNLOADED),
    Cache(
        "conda",
        "conda",
        (".conda/pkgs", "miniconda3/pkgs", "anaconda3/pkgs", "miniforge3/pkgs", "micromamba/pkgs", ".mamba/pkgs"),
        "Environments of yours stay. The next one that is made downloads its packages again.",
    ),
    Cache(
        "renv",
        "renv",
        (".cache/R/renv",),
        "Projects that use renv link to it: run renv::restore() in each of them afterwards.",
    ),
    Cache("npm", "npm", (".npm/_cacache",), DOWNLOADED),
    Cache(
        "huggingface",
        "Hugging Face",
        # Beside them lies the token that signs people in there.
        (".cache/huggingface/hub", ".cache/huggingface/datasets", ".cache/huggingface/xet"),
        "Models and data are downloaded again when they are used.",
    ),
    Cache("torch", "PyTorch", (".cache/torch",), "Models are downloaded again when they are used."),
)
OTHER_CACHES = Cache(
    "other",
    "Other caches",
    (".cache",),
    "Programs make or download again what they need, which takes a while.",
)
