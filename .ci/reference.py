"""Build the API reference of the public modules: `python reference.py FOLDER`. A warning of pdoc is an error."""

import importlib
import pkgutil
import sys
import warnings
from pathlib import Path

import pdoc

import lemon_async

INTERNAL = {"cli", "session"}  # the command; the module of a class that the root exports


def modules():
    """Return the names of the public modules."""
    found = [module.name for module in pkgutil.iter_modules(lemon_async.__path__)]
    public = sorted(name for name in found if not name.startswith("_") and name not in INTERNAL)
    return ["lemon_async", *(f"lemon_async.{name}" for name in public)]


def load(name):
    """Import a module and all its names: pdoc does not see those that are imported when they are first used."""
    module = importlib.import_module(name)
    vars(module).update({public: getattr(module, public) for public in module.__all__})
    return module.__all__


def missing(name, names, folder):
    """Return the public names that a page lacks."""
    page = (folder / f"{name.replace('.', '/')}.html").read_text(encoding="utf-8")
    return [f"{name}.{public}" for public in names if f'id="{public}"' not in page]


def main(folder):
    warnings.simplefilter("error")
    if sys.version_info < (3, 12):  # a `TypedDict` does not know its bases: pdoc finds its fields, but not their words
        warnings.filterwarnings("ignore", r"Cannot determine where lemon_async\.requests\.\w+Fields\.\w+ is taken from")
    pdoc.render.configure(docformat="google")
    pages = {name: load(name) for name in modules()}
    pdoc.pdoc(*pages, output_directory=folder)
    lost = [name for page, names in pages.items() for name in missing(page, names, folder)]
    assert not lost, lost
    print(f"{sum(map(len, pages.values()))} names of {len(pages)} modules are in {folder}")


main(Path(sys.argv[1]))
