"""Tell type, role and part of a file from the name that its publisher gave it.

gemma-4-E2B_q4_0-it.gguf                  q4_0
gemma-4-31B-it-BF16-00001-of-00002.gguf   bf16, part 1 of 2
gemma-4-26B-it-qat-UD-Q4_K_XL.gguf        ud-q4_k_xl
mmproj-gemma-4-E2B-it-Q8_0.gguf           an encoder, not a quantization of the model
mtp-gemma-4-31B-it-Q8_0.gguf              a draft model
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from g4cli.core.errors import BadFile, NotFound
from g4cli.core.split_name import list_parts, parse_split_name

Role = Literal["model", "mmproj", "draft"]
SHA256: Final = re.compile(r"[0-9a-f]{64}")
SHA1: Final = re.compile(r"[0-9a-f]{40}")  # of a commit, or of a file as git computes it

# A file is a sidecar (it goes with a model) if its name, or that of a folder above it, contains one
# of these words. None: g4 does not load it.
SIDECARS: Final[tuple[tuple[str, Role | None], ...]] = (
    ("mmproj", "mmproj"),
    ("mtp", "draft"),  # multi-token prediction
    ("assistant", "draft"),
    ("draft", "draft"),
    ("imatrix", None),
    ("ggml-vocab", None),
)
# "ud" marks Unsloth's dynamic types, mixtures of its own; tq types are ternary.
_TYPE: Final = re.compile(
    r"(?:^|[-_.])(?P<ud>ud[-_])?"
    r"(?P<type>bf16|f16|f32|sfp8|mxfp4(?:_moe)?|nvfp4"
    r"|t?q\d_(?:k(?:_(?:xs|s|m|l|xl|xxl))?|[01])|iq\d_(?:xxs|xs|s|m|nl))"
    r"(?=[-_.]|$)",
    re.IGNORECASE,
)
_MAX_PARTS: Final = 1000  # of a split file, a choice: models have some ten
# Backslashes, absolute paths, a home folder, drive letters, "." and "..", and empty names.
_UNSAFE: Final = re.compile(r"\\|^[/~]|^[A-Za-z]:|(?:^|/)\.\.?(?:/|$)|//")
# The types to prefer if the user names none: Gemma 4 is trained for Q4_0 (QAT), then the smallest
# good ones.
PREFERENCE: Final = ("q4_0", "q4_k_m", "ud-q4_k_xl", "q5_k_m", "q6_k", "q8_0", "bf16", "f16", "f32")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository at one commit.

    `sha256` is "" for small files, which git stores itself under `git_oid`.
    """

    path: str
    nbytes: int
    sha256: str = ""
    git_oid: str = ""

    @property
    def name(self) -> str:
        """The name without folders."""
        return self.path.rsplit("/", 1)[-1]


def check_paths(repo: str, paths: Iterable[str]) -> None:
    """Raise BadFile if a listed path leaves its folder or has unprintable characters."""
    for path in paths:
        if not path or not path.isprintable() or _UNSAFE.search(path):
            raise BadFile(
                f"{repo} lists a file with an unsafe path: {path!r}; nothing was downloaded",
                hint=f"report it to the owners of {repo}",
            )


def type_of_name(path: str) -> str:
    """Return the type that a file name claims, in lower case, or "" if it names none."""
    matches = list(_TYPE.finditer(_stem_of(path)))
    if not matches:
        return ""
    # The last one counts: gemma-4-12b-it-qat-q4_0-BF16.gguf is a BF16 file.
    last = matches[-1]
    return ("ud-" if last["ud"] else "") + last["type"].lower()


def role_of_name(path: str) -> Role | None:
    """Return the role of a file by its name, None if g4 does not load it."""
    if not path.lower().endswith(".gguf"):
        return None
    words = re.split(r"[-_./]", path.lower())
    for word, role in SIDECARS:
        if word in words or ("-" in word and word in path.lower()):  # ggml-vocab is two words
            return role
    return "model"


def select_role(files: Iterable[RemoteFile], role: Role) -> tuple[RemoteFile, ...]:
    """Return the GGUFs of one role, in the order of the listing."""
    return tuple(f for f in files if role_of_name(f.path) == role)


def types_of(files: Iterable[RemoteFile]) -> tuple[str, ...]:
    """Return the types of the model files, each once."""
    return tuple(
        dict.fromkeys(t for f in select_role(files, "model") if (t := type_of_name(f.path)))
    )


def pick_model(repo: str, files: Sequence[RemoteFile], type_name: str) -> tuple[RemoteFile, ...]:
    """Return the model file of `type_name` ("": any): one file, or all parts in order.

    Raises NotFound with the types that exist, BadFile if a part is missing from the listing.
    """
    fitting = [f for f in select_role(files, "model") if type_name in (type_of_name(f.path), "")]
    if not fitting:
        held = " ".join(types_of(files)) or "none"
        raise NotFound(
            f"{repo} has no {type_name or 'GGUF'} file (its types: {held})", hint=f"hf:{repo}:TYPE"
        )
    # A file in the root is preferred to one in a folder, and a short name to a long one.
    best = min(fitting, key=lambda f: (f.path.count("/"), len(_stem_of(f.path)), f.path))
    return parts_of(repo, files, best)


def pick_mmproj(files: Sequence[RemoteFile]) -> RemoteFile | None:
    """Return the mmproj to download with a model: BF16, else the most precise; None without one."""
    # "" is a name without a type. F32 files are larger than F16 and no better.
    order = ("bf16", "f16", "", "f32", "q8_0")

    def rank_file(file: RemoteFile) -> tuple[int, int, str]:
        type_name = type_of_name(file.path)
        rank = order.index(type_name) if type_name in order else len(order)
        return rank, file.path.count("/"), file.path

    return min(select_role(files, "mmproj"), key=rank_file, default=None)


def pick_draft(files: Sequence[RemoteFile]) -> RemoteFile | None:
    """Return the draft model to download with a model: Q8_0, else the first; None without one."""
    drafts = select_role(files, "draft")
    return min(drafts, key=lambda f: (type_of_name(f.path) != "q8_0", f.path), default=None)


def parts_of(repo: str, files: Sequence[RemoteFile], file: RemoteFile) -> tuple[RemoteFile, ...]:
    """Return `file` alone, or all parts of the split file that it belongs to, in order."""
    split = parse_split_name(file.path)
    if split is None:
        return (file,)
    total = split.total
    paths = list(list_parts(file.path)) if total <= _MAX_PARTS else []
    by_path = {f.path: f for f in files}
    missing = [path for path in paths if path not in by_path]
    if missing or not paths:
        what = missing[0] if missing else f"{total} parts"
        raise BadFile(
            f"{repo}: the split file is incomplete: {what} is missing", hint=f"hf:{repo}/FILE"
        )
    return tuple(by_path[path] for path in paths)


def checkpoint_files(repo: str, files: Sequence[RemoteFile]) -> tuple[RemoteFile, ...]:
    """Return the files of a Hugging Face checkpoint that the converter reads, small ones first.

    Raises NotFound if the weights or the configuration are missing.
    """
    root = [f for f in files if "/" not in f.path]
    weights = [f for f in root if f.path.endswith(".safetensors")]
    texts = [f for f in root if f.path.endswith((".json", ".jinja")) or f.path == "README.md"]
    if not weights or not any(f.path == "config.json" for f in texts):
        raise NotFound(
            f"{repo} has no checkpoint in safetensors format", hint=f"g4 pull hf:{repo}/FILE"
        )
    return (*sorted(texts, key=lambda f: f.path), *sorted(weights, key=lambda f: f.path))


def preferred_type(files: Sequence[RemoteFile]) -> str:
    """Return the type to use if the user names none; "" if no file name has one."""
    held = types_of(files)
    return next((t for t in PREFERENCE if t in held), held[0] if held else "")


def _stem_of(path: str) -> str:
    name = path.rsplit("/", 1)[-1]
    name = name[: -len(".gguf")] if name.lower().endswith(".gguf") else name
    split = parse_split_name(name)
    return split.stem if split else name
