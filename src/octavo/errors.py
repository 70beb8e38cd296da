"""Everything that Octavo raises on purpose.

    OctavoError
    ├── InputError          rows, recipes, arguments: the user can fix it
    ├── ModelError          a model folder that is not what it should be
    ├── ReleaseError        a release or a store that cannot be trusted or found
    ├── EngineError         an engine that cannot be built or run here
    ├── MissingExtraError   a package that an optional part needs is not installed
    └── Interrupted         the user pressed Ctrl-C; whatever can be resumed was kept

    OctavoWarning           not as asked for, but it goes on: shown by the command line, `warnings` in the library

A message says what failed, with which values, and what to do about it.
"""


class OctavoError(Exception):
    """Base of every error that Octavo raises on purpose."""


class InputError(OctavoError):
    """Rows, recipes or arguments that cannot be used. Names the file and line where there is one."""


class ModelError(OctavoError):
    """A model folder that is missing, incomplete, of another family, or unsafe to read."""


class ReleaseError(OctavoError):
    """A release or store that is missing, incomplete, altered, or not certified."""


class EngineError(OctavoError):
    """An inference engine that cannot be built or run on this machine."""


class MissingExtraError(OctavoError):
    """A package that an optional part needs is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"This needs the package '{package}'. Install it with: pip install 'octavo[{extra}]'")


class Interrupted(OctavoError):  # noqa: N818 - reads as the event that it is, like KeyboardInterrupt
    """The user interrupted a long job; the message says how to resume it."""


class OctavoWarning(UserWarning):
    """Something is not as it was meant to be, and goes on all the same."""
