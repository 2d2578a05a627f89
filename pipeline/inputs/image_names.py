"""Names of images that are spelled in another way than their files: separators, Unicode form, case, no suffix."""

from __future__ import annotations

import functools
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from pipeline.inputs.image_ids import is_image_name


@dataclass(frozen=True)
class KnownNames:
    """The names that the images of a data set have.

    Attributes
    ----------
    label_ids : mapping of str to int
        Row of each image of the label file; where it has a file, by the name of the file.
    files : collection of str
        Names of the files in the image folder, of images without a label row, too.
    """

    label_ids: Mapping[str, int]
    files: Collection[str] = ()

    @functools.cached_property
    def all(self) -> frozenset[str]:
        """All names."""
        return frozenset(self.label_ids).union(self.files)

    @functools.cached_property
    def _folded(self) -> frozenset[str]:
        return frozenset(map(_without_suffix, self.all))

    def may_mean(self, name: str) -> bool:
        """Return whether a name may be another spelling of a known one."""
        return _without_suffix(_with_slashes(name)) in self._folded

    def spellings(self, names: Collection[str]) -> dict[str, str]:
        """Return the known name that each other spelling means: see `known_spellings`."""
        return known_spellings(names, self.all)


def known_spellings(names: Collection[str], known: Collection[str]) -> dict[str, str]:
    r"""Return the known name that each other spelling means.

    A name may differ from the known one in its separators (``./a.jpg``, ``sub\a.jpg``), its Unicode
    form (NFC, NFD), the case of its letters, or by having no image suffix. The smallest difference
    counts, and only where a single known name meets a single other spelling.

    Parameters
    ----------
    names : collection of str
        Those that are known as they are get no entry, and leave none for another spelling.
    known : collection of str
        Relative paths with slashes; a set or a mapping.

    Examples
    --------
    >>> known_spellings(["a.JPG", "./b.jpg", "c", "d.png"], {"a.jpg", "b.jpg", "c.jpg", "d.jpg"})
    {'./b.jpg': 'b.jpg', 'a.JPG': 'a.jpg', 'c': 'c.jpg'}
    """
    others = {name: _with_slashes(name) for name in names if name not in known}
    if not others:
        return {}
    taken = {name for name in names if name in known}
    found: dict[str, str] = {}
    for fold in (_in_unicode_form, _in_lower_case, _without_suffix):
        new = _single_matches({name: fold(path) for name, path in others.items()}, known, fold)
        new = {name: match for name, match in new.items() if match not in taken}
        taken.update(new.values())
        found |= new
        others = {name: path for name, path in others.items() if name not in new}
        if fold is _in_lower_case:
            others = {name: path for name, path in others.items() if not is_image_name(path)}
    return found


def _single_matches(folded: dict[str, str], known: Iterable[str], fold: Callable[[str], str]) -> dict[str, str]:
    """Return the known name of the same folded form, where one name and one known name have it."""
    names = Counter(folded.values())
    known_of: dict[str, str | None] = {}
    for name in known:
        key = fold(name)
        if key in names:
            known_of[key] = None if key in known_of else name
    matches = ((name, known_of.get(key)) for name, key in folded.items() if names[key] == 1)
    return {name: match for name, match in matches if match is not None}


def _with_slashes(name: str) -> str:
    """Return a relative path with slashes, without parts that mean nothing; ``..`` stays."""
    if "\\" not in name and "./" not in name and "//" not in name:
        return name
    first, *others = name.replace("\\", "/").split("/")
    middle = [part for part in others[:-1] if part not in ("", ".")]
    return "/".join([*([] if first == "." else [first]), *middle, *others[-1:]])


def _in_unicode_form(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _in_lower_case(name: str) -> str:
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name.casefold())


def _without_suffix(name: str) -> str:
    folded = _in_lower_case(name)
    return posixpath.splitext(folded)[0] if is_image_name(folded) else folded
