"""Runs a notebook in a folder and leaves it there with its outputs, as a notebook and as a page.

A program of its own: what Jupyter's packages warn of on import is no fault of the tests.
"""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from traitlets.config import Config

source, folder = map(Path, sys.argv[1:])
notebook = nbformat.read(source, as_version=4)
with tempfile.TemporaryDirectory(prefix="kernel-") as sockets:  # another program could take a port of the kernel
    config = Config(KernelManager={"transport": "ipc", "ip": f"{sockets}/socket"})
    patience = {"timeout": 240, "startup_timeout": 240, "iopub_timeout": 60}  # outputs that come later would be missing
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, allow_errors=True, resources=place, config=config, **patience).execute()
nbformat.write(notebook, folder / source.name)
page, _ = HTMLExporter().from_notebook_node(notebook)
(folder / source.name).with_suffix(".html").write_text(page)
