"""Viewers of a reconstruction on bluesky-widgets' models: PNG files, a Qt window, a notebook.

:mod:`model` takes the documents in, :mod:`figures` and :mod:`data` make panels of :mod:`artists`, :mod:`painting`
corrects bluesky-widgets' views, :mod:`source` brings the documents. ``headless``, ``qt`` and ``jupyter`` are the
front ends.
"""

from streamptycho.errors import ConfigError

_NEEDED = {"view": ("bluesky_widgets", "jsonschema", "matplotlib"), "qt": ("qtpy",), "jupyter": ("ipympl", "ipywidgets")}


def need(front_end: str = "view") -> None:
    """Raises :class:`ConfigError` naming the extra to install if a package that the front end needs is not there."""
    from importlib.util import find_spec

    extra = "jupyter" if front_end == "jupyter" else "view"
    for package in dict.fromkeys((*_NEEDED["view"], *_NEEDED[front_end])):
        if find_spec(package) is None:
            raise ConfigError(f"the package {package} is not installed; pip install 'streamptycho[{extra}]'")
