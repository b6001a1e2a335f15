#!/usr/bin/python3
"""Starts JupyterLab with the arguments given; the rest is in /etc/jupyter/jupyter_server_config.py."""

import os
import sys

os.execvp("jupyter", ["jupyter", "lab", *sys.argv[1:]])
