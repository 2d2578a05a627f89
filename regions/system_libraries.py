"""Messages about shared libraries of the system that a Python package needs, but that are not installed."""

from __future__ import annotations

import re

OPENCV_LIBRARIES = ("libgl1 libglib2.0-0", "mesa-libGL glib2")
"""OpenCV needs both; the loader names only the first one it misses."""
PACKAGES = {
    "libGL.so": OPENCV_LIBRARIES,
    "libGLX.so": OPENCV_LIBRARIES,
    "libGLdispatch.so": OPENCV_LIBRARIES,
    "libglib-2.0.so": OPENCV_LIBRARIES,
    "libgobject-2.0.so": OPENCV_LIBRARIES,
    "libgthread-2.0.so": OPENCV_LIBRARIES,
    "libEGL.so": ("libegl1", "mesa-libEGL"),
    "libGLESv2.so": ("libgles2", "libglvnd-gles"),
    "libOpenGL.so": ("libopengl0", "libglvnd-opengl"),
    "libSM.so": ("libsm6", "libSM"),
    "libICE.so": ("libice6", "libICE"),
    "libX11.so": ("libx11-6", "libX11"),
    "libXext.so": ("libxext6", "libXext"),
    "libXrender.so": ("libxrender1", "libXrender"),
    "libgomp.so": ("libgomp1", "libgomp"),
    "libstdc++.so": ("libstdc++6", "libstdc++"),
    "libexpat.so": ("libexpat1", "expat"),
    "libz.so": ("zlib1g", "zlib"),
}
"""Packages of Debian or Ubuntu, and of Fedora, by the library's name without its version."""
MISSING = re.compile(
    r"(?:^|\s)(?P<glibc>[\w.+/-]+\.so[\w.]*): cannot open shared object file"
    r"|Error loading shared library (?P<musl>[\w.+/-]+\.so[\w.]*):"
    r"|Library not loaded: (?P<macos>\S+)"
)
"""What the loaders of Linux (glibc, musl) and macOS report; some packages put text of their own around it."""
SHARED_OBJECT = re.compile(r"\.(so|dylib)\b")


def library_problem(error: ImportError | OSError) -> str | None:
    """Return a message in one line if a package could not be imported because of a shared library, else None.

    Parameters
    ----------
    error : ImportError or OSError
        An OSError is what ``ctypes`` raises; one with a number is about a file, not about a library.

    >>> library_problem(ImportError("libEGL.so.1: cannot open shared object file: No such file or directory"))
    'libEGL.so.1 is missing; install it: apt-get install libegl1 (Debian, Ubuntu), dnf install mesa-libEGL (Fedora)'
    >>> library_problem(ImportError("cannot import name 'a' from 'b' (/x/b.so)"))
    """
    if isinstance(error, ModuleNotFoundError) or (isinstance(error, OSError) and error.errno is not None):
        return None
    text = str(error)
    missing = MISSING.search(text)
    if missing is not None:
        return _missing_library(missing[missing.lastgroup or 0].rpartition("/")[2])
    if SHARED_OBJECT.search(text) and not text.startswith("cannot import name"):
        return f"a library of the system cannot be loaded: {' '.join(text.split())}"
    return None


def _missing_library(library: str) -> str:
    stem, suffix, _ = library.partition(".so")
    packages = PACKAGES.get(stem + suffix)
    if packages is None:
        return f"{library} is missing; install the package of the system that contains it"
    debian, fedora = packages
    return f"{library} is missing; install it: apt-get install {debian} (Debian, Ubuntu), dnf install {fedora} (Fedora)"
