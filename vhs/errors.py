"""What a user sees when an input is wrong: one line, no traceback, exit code 2.

Every message names the file, key or image, says what is wrong and what would be right. A mistake of ours is an
`assert`, never one of these.
"""


class VHSError(Exception):
    """Base class; the commands print its text on one line and exit with code 2."""


class ConfigError(VHSError):
    """A configuration key, its value, or a combination of keys is wrong."""


class CheckpointError(VHSError):
    """A checkpoint is missing, truncated, of another architecture, or does not fit the rest of the run."""


class PromptError(VHSError):
    """A prompt file cannot be read, or one of its lines is malformed."""


class ImageError(VHSError):
    """A picture cannot be read or judged."""


class RunError(VHSError):
    """A run cannot continue: a folder of another run, a full disk, a score that is not finite."""


class BusyError(RunError):
    """Another process writes what was to be written."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's text that says something, or else its type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def is_failure(error: BaseException) -> bool:
    """An exception that is no interrupt: Python's, or that of a library in Rust which had not thought of a case
    (tokenizers, of a tokenizer.json), to Python no Exception."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def is_memory(error: BaseException) -> bool:
    """What was asked for does not fit the machine: Python's own error, a device's (torch.OutOfMemoryError), or that of
    torch on a CPU, which has no type of its own."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
