"""What can go wrong, and with which exit code. Every error a user can meet is one of these."""


class ServingError(Exception):
    """Base of all expected failures. Its text is shown to the user as it is, without a stack trace."""

    exit_code = 3


class ConfigError(ServingError):
    """A flag, variable, file or checkpoint is not usable as given. Names the key, the value and what was expected."""

    exit_code = 2


class CheckpointError(ConfigError):
    """The checkpoint cannot be found, is damaged, or cannot be served by the engine at hand."""


class DoesNotFitError(ConfigError):
    """The checkpoint does not fit the hardware. Says the numbers and what would fit."""


class StartError(ServingError):
    """The server could not start although its configuration is good: port taken, cache unwritable, engine failed."""

    exit_code = 3


class EngineDiedError(ServingError):
    """The engine died while serving."""

    exit_code = 4


EXIT_STOPPED = 0
EXIT_CONFIGURATION = ConfigError.exit_code
EXIT_FAILED_TO_START = StartError.exit_code
EXIT_ENGINE_DIED = EngineDiedError.exit_code


def near(name: str, known: list[str]) -> str:
    """A hint like ' (did you mean "port"?)' when one of `known` is close to `name`, else ''."""
    from difflib import get_close_matches

    folded = {candidate.casefold(): candidate for candidate in known}
    matches = get_close_matches(name.casefold(), list(folded), n=3, cutoff=0.6)
    if not matches:
        return ""
    return " (did you mean " + " or ".join(f'"{folded[match]}"' for match in matches) + "?)"
