"""What is on disk: one folder per model, one manifest per file, and how a name becomes a path.

    manifest.py   Entry: what a manifest says; written beside its file, rebuilt from it when damaged
    models.py     list_models, find, newest, resolve, remove
    adopt.py      a local file becomes a model
    make.py       a checkpoint or a larger file becomes a model
    verify.py     is a file still what its manifest says
    others.py     what other programs have on this disk
    describe.py   a header as the lines of `g4 show`

What other parts call: `resolve(text) -> Path` for every MODEL argument, `find(text) -> Found` where the
reason of the choice is shown.
"""

from g4cli.store.manifest import Entry
from g4cli.store.models import (
    FoundModel,
    find_model_file,
    find_model_path,
    find_newest_model,
    find_sidecar,
    list_models,
)

__all__ = [
    "Entry",
    "FoundModel",
    "find_model_file",
    "find_model_path",
    "find_newest_model",
    "find_sidecar",
    "list_models",
]
