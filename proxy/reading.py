"""Reading a table of settings: every value by name and type, every mistake noted under its full name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class ConfigError(Exception):
    """The configuration is not valid; `errors` names every bad setting."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        self.errors = dict(errors)
        super().__init__("\n".join(f"{name}: {text}" for name, text in self.errors.items()))


class Table:
    """One table of a configuration. Whatever is wrong is noted in `errors`, which all tables share."""

    def __init__(self, value: Any, name: str, errors: dict[str, str]) -> None:
        self.name = name
        self.errors = errors
        self._value: Mapping[str, Any] = {}
        self._read: set[str] = set()
        if isinstance(value, Mapping):
            self._value = value
        elif value is not None:
            errors[name] = "must be a table"

    def wrong(self, key: str, text: str) -> None:
        """Notes what is wrong with a setting."""
        self.errors[f"{self.name}.{key}" if self.name else key] = text

    def __contains__(self, key: str) -> bool:
        return key in self._value

    def raw(self, key: str) -> Any:
        """Returns a value as it is."""
        self._read.add(key)
        return self._value.get(key)

    def _typed(self, key: str, default: T, fits: Callable[[Any], bool], what: str) -> T:
        value = self.raw(key)
        if value is None:
            return default
        if not fits(value):
            self.wrong(key, f"must be {what}")
            return default
        found: T = value
        return found

    def text(self, key: str, default: str | None = None) -> str | None:
        """Returns a text that is not empty."""
        return self._typed(
            key, default, lambda v: isinstance(v, str) and bool(v.strip()), "a text that is not empty"
        )

    def flag(self, key: str, default: bool = False) -> bool:
        """Returns true or false."""
        return self._typed(key, default, lambda v: isinstance(v, bool), "true or false")

    def whole(self, key: str, default: int, least: int, most: int) -> int:
        """Returns a whole number within bounds."""
        return self._typed(
            key,
            default,
            lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v <= most,
            f"a whole number from {least} to {most}",
        )

    def seconds(self, key: str, default: float, least: float = 0.001, most: float = 86_400.0) -> float:
        """Returns a time in seconds."""
        return float(
            self._typed(
                key,
                default,
                lambda v: isinstance(v, int | float) and not isinstance(v, bool) and least <= v <= most,
                f"seconds from {least:g} to {most:g}",
            )
        )

    def texts(
        self, key: str, default: Iterable[str] = (), known: Iterable[str] | None = None
    ) -> tuple[str, ...]:
        """Returns a list of texts, of the `known` ones where those are named."""
        value = self.raw(key)
        if value is None:
            return tuple(default)
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            self.wrong(key, "must be a list of texts")
            return tuple(default)
        names = None if known is None else tuple(known)
        strange = [one for one in value if names is not None and one not in names]
        if strange and names is not None:
            self.wrong(key, f"has unknown {', '.join(strange)}; known are {', '.join(names)}")
        return tuple(value)

    def pairs(self, key: str) -> dict[str, str]:
        """Returns a table of texts."""
        value = self.raw(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping) or not all(isinstance(one, str) for one in value.values()):
            self.wrong(key, "must be a table of texts")
            return {}
        return dict(value)

    def table(self, key: str) -> Table:
        """Returns a table inside this one, empty where there is none."""
        return Table(self.raw(key), f"{self.name}.{key}" if self.name else key, self.errors)

    def tables(self, key: str) -> list[Table]:
        """Returns the tables of a list."""
        value = self.raw(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.wrong(key, "must be a list of tables")
            return []
        where = f"{self.name}.{key}" if self.name else key
        return [Table(one, f"{where}[{place}]", self.errors) for place, one in enumerate(value)]

    def names(self) -> list[str]:
        """Returns the names of what stands in it."""
        return list(self._value)

    def secret(self, key: str, environment: Mapping[str, str], *, needed: bool = False) -> str | None:
        """Returns a secret, which stands in a variable of the environment (`…_env`) or in a file (`…_file`).

        Never in the configuration itself, which is read, copied and shown.
        """
        variable, file = self.text(f"{key}_env"), self.text(f"{key}_file")
        found: str | None = None
        if key in self._value:
            self.raw(key)
            self.wrong(key, f"must not stand here; name a variable in {key}_env or a file in {key}_file")
        if variable is not None and file is not None:
            self.wrong(f"{key}_file", f"must not stand beside {key}_env")
        elif variable is not None:
            found = (environment.get(variable) or "").strip() or None
            if found is None and needed:
                self.wrong(f"{key}_env", f"names {variable}, which is not set")
        elif file is not None:
            try:
                found = Path(file).read_text().strip() or None
            except (OSError, UnicodeDecodeError) as error:
                self.wrong(f"{key}_file", f"cannot be read: {error}")
            else:
                if found is None:
                    self.wrong(f"{key}_file", "is empty")
        elif needed:
            self.wrong(f"{key}_env", f"or {key}_file must be named")
        if found is not None and not (found.isascii() and found.isprintable()):
            self.wrong(f"{key}_env" if variable else f"{key}_file", "must hold printable ASCII in one line")
            return None
        return found

    def close(self) -> None:
        """Notes every setting that nobody asked for."""
        for key in self._value:
            if key not in self._read:
                self.wrong(key, "is no setting")
