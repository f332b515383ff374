"""Errors that the user can fix."""

from __future__ import annotations


class UserError(Exception):
    """An error that the user can fix; the command line prints only its one-line message."""


class ConfigError(UserError):
    """A value that the configuration does not allow; the message names the key, the value and what is allowed."""

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key}={value}: {allowed}")
        self.key, self.value, self.allowed = key, value, allowed

    def under(self, prefix: str) -> ConfigError:
        """Return the same error with `prefix` in front of its key."""
        return ConfigError(f"{prefix}.{self.key}", self.value, self.allowed) if prefix else self


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error message, or the error's class name if it is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
