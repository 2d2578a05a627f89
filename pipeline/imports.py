"""Importing a large library without what it loads beside what is needed of it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class _Absent(MetaPathFinder):
    """Cannot find some modules, as where they are not installed."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Raise a ModuleNotFoundError for these modules and all below; leave all others to the next finder."""
        if any(f"{fullname}.".startswith(f"{name}.") for name in self._names):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


class _Postponed(MetaPathFinder):
    """Finds some modules such that their code runs only when they are first used."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find these modules; leave all others to the next finder."""
        spec = PathFinder.find_spec(fullname, path, target) if fullname in self._names else None
        if spec is not None and spec.loader is not None:
            spec.loader = _PostponingLoader(spec.loader)
        return spec


class _PostponingLoader(Loader):
    """Runs the code of a module at the first look-up of an attribute that the module does not have yet.

    `importlib.util.LazyLoader` would run it as soon as an import statement names the module again,
    as the import of a submodule does.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Let the module be made as it would be otherwise."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Prepare the module to run its code later."""
        loader = self._loader

        def run_and_look_up(name: str) -> object:
            vars(module).pop("__getattr__", None)
            if module.__spec__ is not None:
                module.__spec__.loader = module.__loader__ = loader
            loader.exec_module(module)
            return getattr(module, name)

        vars(module)["__getattr__"] = run_and_look_up


@contextlib.contextmanager
def absent(*names: str) -> Iterator[None]:
    """Let modules that are not loaded yet be missing within the block, as where they are not installed."""
    with _first(_Absent(names)):
        yield


@contextlib.contextmanager
def postponed(*names: str) -> Iterator[None]:
    """Let modules that are imported within the block be loaded when they are first used, which may be never."""
    with _first(_Postponed(names)):
        yield


@contextlib.contextmanager
def _first(finder: MetaPathFinder) -> Iterator[None]:
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
