"""Data-Science Launchpad: RStudio and JupyterLab for everyone on your own server."""

__version__ = "0.1.0"
