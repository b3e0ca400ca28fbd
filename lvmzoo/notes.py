"""What is said of conversions: each kind once."""

import warnings

__all__ = ["ImageNote", "Notes"]


class ImageNote(UserWarning):
    """A picture was converted in a way its owner may want to know of.

    Example:
        >>> import warnings
        >>> from PIL import Image
        >>> with warnings.catch_warnings(action="error", category=lvmzoo.ImageNote):
        ...     lvmzoo.load_images(Image.new("CMYK", (32, 32)), "vae_cifar10")
        Traceback (most recent call last):
        lvmzoo.notes.ImageNote: the image: converted from CMYK
    """


class Notes:
    """What was done to pictures that their owner may want to know: each kind once, counted."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, int]] = {}

    @property
    def counts(self) -> dict[str, int]:
        """How many pictures each kind was done to."""
        return {kind: count for kind, (_, count) in self._found.items()}

    @property
    def found(self) -> list[tuple[str, str, int]]:
        """Each kind, the first picture that it was done to, and how many."""
        return [(kind, first, count) for kind, (first, count) in self._found.items()]

    def add(self, name: str, kind: str, count: int = 1) -> None:
        """Note that this was done to the picture of this name, and to others of this count."""
        first, before = self._found.get(kind, (name, 0))
        self._found[kind] = first, before + count

    def include(self, other: "Notes") -> None:
        """Note what others have noted."""
        for kind, first, count in other.found:
            self.add(first, kind, count)

    def lines(self) -> list[str]:
        """Return a line for each kind, with the first picture and how many more there are."""
        return [
            f"{first}{f' and {count - 1} more' if count > 1 else ''}: {kind}"
            for kind, (first, count) in self._found.items()
        ]

    def warn(self, stacklevel: int) -> None:
        """Say each line as an `ImageNote`, as if the caller at this level had."""
        for line in self.lines():
            warnings.warn(line, ImageNote, stacklevel=stacklevel + 1)
