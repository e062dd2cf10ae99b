"""The words of a command line, sorted: names and folders, options, settings."""

from __future__ import annotations

import shlex
from typing import NamedTuple

from dfx.errors import PersonError, nearest


class Arguments(NamedTuple):
    """A command line: words without dashes, options, settings in order, and all of it as given."""

    words: tuple[str, ...]
    options: dict[str, str]
    settings: tuple[tuple[str, str], ...]
    given: tuple[str, ...] = ()

    def positionals(self, usage: str) -> tuple[str, ...]:
        """Return the words, if there are as many as the usage line has after the command.

        Raises:
          PersonError: there are more or fewer.
        """
        wanted = [word for word in usage.split() if word.isupper() or word.startswith("STUDY")]
        if len(self.words) != len(wanted):
            given = shlex.join(self.words) or "nothing"
            raise PersonError(f"given {given}, allowed: {usage}")
        return self.words

    def refuse_settings(self) -> None:
        """Raise a PersonError if there are settings: the command has no use for them."""
        if self.settings:
            name = self.settings[0][0]
            raise PersonError(f"--config.{name} is of no use here: a run folder has its own config")


def parse(argv: list[str], options: tuple[str, ...], settings: bool = True) -> Arguments:
    """Return the sorted command line; `--name=value` and `--name value` are the same.

    Args:
      settings: whether the command has a use for settings: a message on an option names them.

    Raises:
      PersonError: an option that does not exist, or one without its value.
    """
    words, found, given_settings = [], {}, []
    rest = iter(argv)
    for word in rest:
        if not word.startswith("-"):
            words.append(word)
            continue
        name, given, value = word.partition("=")
        if name not in options and not name.startswith("--config."):
            raise _unknown(name, options, settings)
        if not given:
            value = next(rest, "--")
            if value.startswith("--"):
                raise PersonError(f"{name} needs a value: {name}=VALUE")
        if name in options:
            found[name] = value
        else:
            given_settings.append((name.removeprefix("--config."), value))
    return Arguments(tuple(words), found, tuple(given_settings), tuple(argv))


def _unknown(name: str, options: tuple[str, ...], settings: bool) -> PersonError:
    head, dot, tail = name.partition(".")
    near = nearest(head, [*(["--config"] if dot and settings else []), *options, "--help"])
    hint = f": did you mean {near + dot + tail!r}?" if near else "."
    allowed = ", ".join([*options, *(["--config.SETTING"] if settings else [])])
    return PersonError(f"unknown option {name!r}{hint} allowed: {allowed or '--help'}")
