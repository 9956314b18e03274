"""Every error that a user can meet, as data. Only `g4cli.cli.main` and the server render them.

    G4Error ................................ exit code
     +- UsageError                           2   the request itself is wrong
     |   +- BadField                             a field of a request to the server
     +- NotFound                             3   nothing of that name
     |   +- UnknownModel
     |   +- FileMissing
     +- DoesNotFit                           4   too large for this machine
     |   +- NoSpace                              disk
     |   +- NoMemory                             memory
     |   +- ContextFull                          more tokens than the context has room for
     +- BadFile                              5   a file is not what it should be
     |   +- BadGGUF                              with file, offset and field
     |   +- NotGGUF                              a BadGGUF: another kind of file
     |   +- BadCheckpoint                        a Hugging Face folder
     |   +- BadMedia                             an image or a sound
     |   +- HashMismatch                         its sha256 is not the published one
     +- NetworkError                         6   the hub cannot be reached or refuses
     +- RuntimeFailed                        7   llama.cpp refused or died
     |   +- EngineMissing                        llama-cpp-python is not there or cannot be loaded
     |   +- QueueFull                            too many requests wait already
     |   +- ReaderTooSlow                        nobody read an answer for too long
     +- DoctorFailed                         8   a check failed (the report is already shown)
     +- LoopStopped                          9   the loop detector ended an answer
     +- Interrupted                          130

`reference` is a stable kebab-case name for scripts and searches. `hint` is, wherever possible, a
command to type.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Final

from g4cli.core.quoting import shell_command

# docs/reference/exit-codes.md and the man page are made from this table; a test compares it with
# the tree.
EXIT_CODES: Final[tuple[tuple[int, str], ...]] = (
    (0, "Success."),
    (1, "A bug in g4: please report the traceback."),
    (2, "The request is wrong: options, arguments, or files that do not belong together."),
    (3, "No such model or file."),
    (4, "Not enough memory or disk space."),
    (5, "A file is damaged or not what it should be."),
    (6, "The network or the hub failed."),
    (7, "llama.cpp refused the request or crashed, or an answer was cut off within its schema."),
    (8, "The doctor found a failure."),
    (9, "The loop detector stopped the answer."),
    (130, "Interrupted by Ctrl-C, or a question was answered with no."),
)


class G4Error(Exception):
    """An expected failure: one sentence, and what to do about it."""

    reference: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(G4Error):
    reference = "usage"
    exit_code = 2


class BadField(UsageError):
    """A field of a request that is not valid: `field` is its path, such as `messages.0.role`."""

    reference = "bad-field"

    def __init__(self, field: str, what: str, *, hint: str | None = None) -> None:
        super().__init__(f"{field}: {what}", hint=hint)
        self.field = field


class NotFound(G4Error):
    reference = "not-found"
    exit_code = 3


class UnknownModel(NotFound):
    reference = "unknown-model"


class FileMissing(NotFound):
    reference = "file-missing"

    def __init__(self, path: Path | str, *, hint: str | None = None) -> None:
        super().__init__(f"no such file or directory: {path}", hint=hint)
        self.path = Path(path)


class DoesNotFit(G4Error):
    reference = "does-not-fit"
    exit_code = 4


class NoSpace(DoesNotFit):
    reference = "no-space"


class NoMemory(DoesNotFit):
    reference = "no-memory"


class ContextFull(DoesNotFit):
    reference = "context-full"


class BadFile(G4Error):
    reference = "bad-file"
    exit_code = 5


class BadGGUF(BadFile):
    """A GGUF that breaks the format: names the file, the byte offset and the field."""

    reference = "bad-gguf"

    def __init__(
        self,
        path: Path | str,
        what: str,
        *,
        offset: int | None = None,
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        places = (f"byte {offset:,}" if offset is not None else "", field or "")
        place = ", ".join(part for part in places if part)
        super().__init__(
            f"{path}: {what}{f' ({place})' if place else ''}",
            hint=hint or shell_command("g4", "doctor", path),
        )
        self.path = str(path)
        self.what = what
        self.offset = offset
        self.field = field


class NotGGUF(BadGGUF):
    """Another kind of file, not a damaged GGUF: `identity` says which ("a text file")."""

    reference = "not-gguf"

    def __init__(self, path: Path | str, identity: str, *, hint: str | None = None) -> None:
        super().__init__(path, f"not a GGUF: this is {identity}", offset=0, hint=hint)
        self.identity = identity


class BadCheckpoint(BadFile):
    reference = "bad-checkpoint"


class BadMedia(BadFile):
    reference = "bad-media"


class HashMismatch(BadFile):
    reference = "hash-mismatch"


class NetworkError(G4Error):
    reference = "network"
    exit_code = 6


class RuntimeFailed(G4Error):
    reference = "runtime-failed"
    exit_code = 7


class EngineMissing(RuntimeFailed):
    reference = "engine-missing"


class QueueFull(RuntimeFailed):
    reference = "queue-full"


class ReaderTooSlow(RuntimeFailed):
    reference = "reader-too-slow"


class DoctorFailed(G4Error):
    reference = "doctor-failed"
    exit_code = 8


class LoopStopped(G4Error):
    reference = "loop-stopped"
    exit_code = 9


class Interrupted(G4Error):
    reference = "interrupted"
    exit_code = 130


def too_many_tokens(count: str, most: int) -> ContextFull:
    """Return the error for a prompt of `count` tokens ("1,234", "at least 1,234")."""
    return ContextFull(f"the prompt has {count} tokens, the context holds {most:,}")


def error_of(reference: str, message: str, hint: str | None = None) -> G4Error:
    """Return the error that another process of g4 reported by `reference` and message.

    Its class is the one of that `reference`, or the nearest base class that is made from a message
    alone.
    """
    classes: list[type[G4Error]] = [G4Error]
    for cls in classes:  # grows while it is walked
        classes += cls.__subclasses__()
    chosen = next((cls for cls in classes if cls.reference == reference), G4Error)
    while chosen.__init__ is not G4Error.__init__:
        chosen = chosen.__bases__[0]
    return chosen(message, hint=hint)
