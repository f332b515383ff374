"""The errors that a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: the one line of its message is all that the command line prints."""


class ConfigError(UserError):
    """A value that the configuration does not allow: names the key, the value and what is allowed."""

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key}={value}: {allowed}")
        self.key, self.value, self.allowed = key, value, allowed

    def under(self, prefix: str) -> ConfigError:
        """Returns the same error with the full path of its key."""
        return ConfigError(f"{prefix}.{self.key}", self.value, self.allowed) if prefix else self


def first_line(error: BaseException) -> str:
    """Returns the first line of another library's message, or the error's name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
