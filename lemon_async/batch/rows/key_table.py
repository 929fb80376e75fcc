"""Remember the keys of many rows in little memory: a million take 33 MB here, and 100 MB in a `dict`."""

from array import array

__all__ = ["KeyTable"]

_FIRST_SIZE = 1024
_LARGEST = 2**64 - 1


class KeyTable:
    """A map from the hashes of keys to numbers, both of 64 bits; nothing is removed.

    Two keys with one hash are taken for one: of a million, with a probability below 1 in 10 million.
    """

    def __init__(self) -> None:
        self._count = 0
        self._hashes = array("Q", bytes(8 * _FIRST_SIZE))
        self._values = array("Q", bytes(8 * _FIRST_SIZE))

    def get(self, key: str) -> int | None:
        """Return the number of a key, or `None` if it is not known."""
        at = self._find(_hash_of(key))
        return self._values[at] if self._hashes[at] else None

    def put(self, key: str, value: int) -> None:
        """Set the number of a key."""
        at = self._find(hashed := _hash_of(key))
        if self._hashes[at]:
            self._values[at] = value
        else:
            self._add(at, hashed, value)

    def setdefault(self, key: str, value: int) -> int | None:
        """Return the number of a key, or set it and return `None` if the key is new."""
        at = self._find(hashed := _hash_of(key))
        if self._hashes[at]:
            return self._values[at]
        self._add(at, hashed, value)
        return None

    def _add(self, at: int, hashed: int, value: int) -> None:
        self._hashes[at], self._values[at] = hashed, value
        self._count += 1
        if 8 * self._count > 5 * len(self._hashes):
            self._grow()

    def _find(self, hashed: int) -> int:
        """Return where a hash is, or the free place where it goes."""
        hashes, mask = self._hashes, len(self._hashes) - 1
        at = hashed & mask
        while (found := hashes[at]) and found != hashed:
            at = (at + 1) & mask
        return at

    def _grow(self) -> None:
        hashes, values = self._hashes, self._values
        self._hashes = array("Q", bytes(16 * len(hashes)))
        self._values = array("Q", bytes(16 * len(hashes)))
        for hashed, value in zip(hashes, values, strict=True):
            if hashed:
                at = self._find(hashed)
                self._hashes[at], self._values[at] = hashed, value


def _hash_of(key: str) -> int:
    return hash(key) & _LARGEST or 1  # 0 marks a free place
