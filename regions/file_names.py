"""Names of files: which are not of a data set, which errors are due to a name, and names as text."""

from __future__ import annotations

import errno

FOREIGN_NAMES = frozenset(
    {
        # Windows
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "$recycle.bin",
        "recycler",
        "system volume information",
        # macOS, and archives made there
        "__macosx",
        "icon\r",
        "network trash folder",
        "temporary items",
        # network storage: Synology, QNAP, NetApp
        "@eadir",
        "@tmp",
        "#recycle",
        "#snapshot",
        "@recycle",
        "@recently-snapshot",
        "~snapshot",
        # Linux
        "lost+found",
    }
)
"""Names of files and folders, in lower case."""
FOLDER_MARKER = "_$folder$"
"""End of the objects that Hadoop makes in place of folders."""

PATH_ERRORS = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)
"""Numbers of errors that another path, or other rights on it, would not raise: bad input, not a failure."""


def is_foreign(path: str) -> bool:
    r"""Return whether a file that a listing has is not of the data set.

    That is, whether it or a folder it is in is hidden (its name begins with a dot), or has a name that
    operating systems, network drives or archivers give to files of their own. Upper and lower case do
    not differ. A name that a user wrote, such as an image id in a label file, is not for this function.

    Parameters
    ----------
    path : str
        Relative to the folder that was listed, with forward slashes. An empty path, and one that ends
        with a slash, is an object store's marker of a folder.

    >>> is_foreign("._a.jpg"), is_foreign("sub/@eaDir/a.jpg"), is_foreign("THUMBS.DB"), is_foreign("sub/")
    (True, True, True, True)
    >>> is_foreign("a.b.jpg"), is_foreign("./thumbs/desktop.jpg")
    (False, False)
    """
    for name in path.split("/"):
        if name.lower() in FOREIGN_NAMES or (name[:1] == "." and name not in (".", "..")):
            return True
    return not path or path.endswith(("/", FOLDER_MARKER))


def as_text(name: str) -> str:
    r"""Return a file name, or an argument, with escapes in place of bytes that are not UTF-8.

    >>> as_text("fa\udce7ade.jpg")
    'fa\\xe7ade.jpg'
    """
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
