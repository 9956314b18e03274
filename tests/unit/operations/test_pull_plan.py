"""What `g4 pull` decides to do: plans made from lists, with no disk and no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from g4cli.core.errors import NetworkError, NotFound, UsageError
from g4cli.core.paths import models_dir
from g4cli.hub import RemoteFile, Repository
from g4cli.operations.pull.plan import PullOptions, PullPlan, plan_checkpoint, plan_pull
from g4cli.store.manifest import Entry

GOOGLE = "google/gemma-4-E2B-it-qat-q4_0-gguf"
GGML = "ggml-org/gemma-4-E2B-it-GGUF"
MODEL = RemoteFile("gemma-4-E2B_q4_0-it.gguf", 900, "a" * 64)
MMPROJ = RemoteFile("gemma-4-E2B-it-mmproj.gguf", 90, "b" * 64)
DRAFT = RemoteFile("mtp-gemma-4-E2B-it-Q8_0.gguf", 9, "d" * 64)
CHECKPOINT = (
    RemoteFile("config.json", 10),
    RemoteFile("model.safetensors", 100, "e" * 64),
    RemoteFile("nested/other.safetensors", 100),
)
COMMIT = "c" * 40


@dataclass
class Facts:
    """A store and a hub made of lists; `asked` records what was listed."""

    repositories: dict[str, tuple[RemoteFile, ...]] = field(default_factory=dict)
    entries: Sequence[Entry] = ()
    is_changed: bool = False
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def list_entries(self, name: str) -> Sequence[Entry]:
        return [entry for entry in self.entries if entry.name == name]

    def is_intact(self, entry: Entry) -> bool:
        assert entry in self.entries
        return not self.is_changed

    def list_repository(self, repo: str, revision: str | None = None) -> Repository:
        self.asked.append((repo, revision))
        if repo not in self.repositories:
            raise NetworkError(f"{repo}: no network", hint="")
        return Repository(repo, COMMIT, self.repositories[repo])


def hub() -> dict[str, tuple[RemoteFile, ...]]:
    return {
        GOOGLE: (MODEL, MMPROJ),
        GGML: (RemoteFile("m-bf16.gguf", 7000, "f" * 64), RemoteFile("m-Q8_0.gguf", 3000), DRAFT),
    }


def pulled(file: RemoteFile = MODEL, **changes: Any) -> Entry:
    path = models_dir() / "e2b" / file.name
    entry = Entry("e2b", "q4_0", path, file.nbytes, file.sha256, "", f"hf:{GOOGLE}/{file.path}")
    return replace(entry, **changes)


def plan(text: str, facts: Facts, **options: Any) -> PullPlan:
    return plan_pull(text, PullOptions(**options), facts)


def test_a_published_type_is_fetched_with_its_mmproj() -> None:
    made = plan("e2b", Facts(hub()))
    assert (made.kind, made.label) == ("fetch", "e2b:q4_0")
    assert [p.file for p in made.files] == [MODEL]
    assert [p.file for p in made.sidecars] == [MMPROJ]
    assert made.files[0].target == models_dir() / "e2b" / MODEL.name
    assert not models_dir().exists()


def test_sidecars_come_from_another_repository_if_need_be() -> None:
    made = plan("e2b", Facts(hub()), mmproj=False, draft=True)
    assert [(p.repository.repo, p.file) for p in made.sidecars] == [(GGML, DRAFT)]
    mmproj = pulled(MMPROJ, role="mmproj")
    assert plan("e2b", Facts(hub(), [mmproj])).sidecars == ()


def test_what_is_here_is_kept_without_asking_the_hub() -> None:
    facts = Facts(hub(), [pulled()])
    for options in ({"no_update": True}, {"offline": True}):
        made = plan("e2b", facts, **options)
        assert (made.kind, made.entry) == ("keep", pulled())
    assert facts.asked == []
    assert plan("e2b", facts, no_update=True, restart=True).kind == "fetch"


def test_another_revision_than_the_one_here_is_not_taken_for_it() -> None:
    address = f"hf:{GOOGLE}/{MODEL.path}"
    name = f"hf:{GOOGLE}"
    here = pulled(name=name, source=f"{address}@{COMMIT}")
    facts = Facts(hub(), [here])
    assert plan(f"{address}@{COMMIT[:8]}", facts, offline=True).entry == here
    assert plan(address, facts, offline=True).entry == here
    assert facts.asked == []
    for other in ("d" * 40, "a-branch"):
        made = plan(f"{address}@{other}", facts, offline=True)
        assert made.kind == "fetch"
        assert facts.asked.pop() == (GOOGLE, other)


def test_the_same_file_is_not_fetched_again() -> None:
    same = plan("e2b", Facts(hub(), [pulled()]))
    assert same.files[0].known == pulled()
    newer = plan("e2b", Facts(hub(), [pulled(sha256="9" * 64)]))
    assert newer.files[0].known is None
    assert "newer on the hub" in newer.reasons[-1]
    changed = plan("e2b", Facts(hub(), [pulled()], is_changed=True))
    assert changed.files[0].known is None
    assert "has changed on this disk" in changed.reasons[-1]
    assert plan("e2b", Facts(hub(), [pulled()]), restart=True).files[0].known is None


def test_without_a_network_the_file_here_will_do() -> None:
    made = plan("e2b", Facts({}, [pulled()]))
    assert (made.kind, len(made.reasons)) == ("keep", 1)
    for entries, restart in ([], False), ([pulled()], True):
        with pytest.raises(NetworkError):
            plan("e2b", Facts({}, entries), restart=restart)


def test_a_type_that_nobody_publishes_is_quantized_from_one_that_is() -> None:
    made = plan("e2b:sfp8", Facts(hub()), mmproj=False)
    assert (made.kind, made.target) == ("quantize", models_dir() / "e2b" / "e2b-SFP8.gguf")
    assert made.source is not None
    assert (made.source.kind, made.source.label) == ("fetch", "e2b:bf16")
    here = pulled(type="sfp8")
    kept = plan("e2b:sfp8", Facts(hub(), [here]), draft=True)
    assert (kept.kind, kept.entry) == ("keep", here)
    assert [p.file for p in kept.sidecars] == [MMPROJ, DRAFT]
    assert plan("e2b:sfp8", Facts({}, [here])).entry == here
    sidecars = [pulled(MMPROJ, role="mmproj"), pulled(DRAFT, role="draft")]
    assert plan("e2b:sfp8", Facts(hub(), [here, *sidecars]), draft=True).sidecars == ()


def test_a_checkpoint_is_converted() -> None:
    repositories = {"google/gemma-4-E2B": CHECKPOINT, "a/tuned": CHECKPOINT}
    base = plan("e2b-base:q8_0", Facts(repositories))
    assert (base.kind, base.type) == ("convert", "q8_0")
    assert [p.file.path for p in base.files] == ["config.json", "model.safetensors"]
    assert base.origin == f"made from hf:google/gemma-4-E2B@{COMMIT}"
    tuned = plan("hf:a/tuned", Facts(repositories))
    assert (tuned.kind, tuned.type) == ("convert", "bf16")
    assert tuned.origin == f"made from hf:a/tuned@{COMMIT}"
    assert len(plan_checkpoint("hf:a/tuned", Facts(repositories))) == 2
    with pytest.raises(UsageError, match="a whole repository"):
        plan_checkpoint("hf:a/tuned:q4_0", Facts(repositories))


def test_a_checkpoint_that_was_converted_is_kept_until_it_changes() -> None:
    path = models_dir() / "hf--a--tuned" / "tuned-BF16.gguf"
    made = Entry("hf:a/tuned", "bf16", path, 9, "", "", f"made from hf:a/tuned@{COMMIT}")
    facts = Facts({"a/tuned": CHECKPOINT}, [made])
    assert plan("hf:a/tuned", facts).entry == made
    assert plan("hf:a/tuned", facts, restart=True).kind == "convert"
    older = replace(made, source=made.source.replace("c", "d"))
    assert plan("hf:a/tuned", Facts({"a/tuned": CHECKPOINT}, [older])).kind == "convert"


def test_a_type_that_cannot_be_made_is_refused_before_the_download() -> None:
    with pytest.raises(UsageError, match="unknown type 'q9_9'"):
        plan("hf:a/tuned:q9_9", Facts({"a/tuned": CHECKPOINT}))


def test_a_split_file_is_on_this_disk_if_all_parts_are() -> None:
    parts = [RemoteFile(f"m-Q4_K_M-0000{n}-of-00002.gguf", 900, "a" * 64) for n in (1, 2)]
    folder = models_dir() / "hf--a--split"
    first, second = (
        Entry("hf:a/split", "q4_k_m", folder / part.name, 900, part.sha256, "", "")
        for part in parts
    )
    second = replace(second, role="part")
    repositories = {"a/split": tuple(parts)}
    assert plan("hf:a/split:q4_k_m", Facts({}, [first, second]), no_update=True).entry == first
    made = plan("hf:a/split:q4_k_m", Facts(repositories, [first]), no_update=True)
    assert [part.known for part in made.files] == [first, None]
    by_path = plan(f"hf:a/split/{parts[0].path}", Facts(repositories))
    assert [part.type_name for part in by_path.files] == ["q4_k_m"] * 2


def test_files_of_one_name_in_two_folders_are_two_files() -> None:
    files = [RemoteFile(f"{folder}/m.gguf", 900, folder * 64) for folder in ("a", "b")]
    addresses = [f"hf:o/r/{file.path}" for file in files]
    facts = Facts({"o/r": tuple(files)})
    first, second = (plan(address, facts).files[0].target for address in addresses)
    assert (first.name, second.name) == ("a--m.gguf", "b--m.gguf")
    # The first one as an older g4 has pulled it.
    here = Entry("hf:o/r", "q4_0", first.with_name("m.gguf"), 900, files[0].sha256, "", "")
    here = replace(here, source=f"{addresses[0]}@{COMMIT}")
    facts = replace(facts, entries=[here])
    assert plan(addresses[0], facts).files[0].known == here
    assert plan(addresses[0], facts, no_update=True).entry == here
    other = plan(addresses[1], facts, no_update=True)
    assert (other.files[0].target, other.files[0].known, other.reasons) == (second, None, ())


def test_an_address_names_a_file_a_type_or_a_repository() -> None:
    facts = Facts(hub())
    by_path = plan(f"hf:{GGML}/m-Q8_0.gguf", facts).files[0]
    assert (by_path.file.name, by_path.type_name) == ("m-Q8_0.gguf", "q8_0")
    assert plan(f"hf:{GGML}:bf16", facts).files[0].file.name == "m-bf16.gguf"
    chosen = plan(f"hf:{GGML}@v1", facts)
    assert facts.asked[-1] == (GGML, "v1")
    assert chosen.type == "q8_0"
    assert chosen.reasons == (f"type q8_0: the first in g4's order of preference that {GGML} has",)
    for file, reason in (
        ("m-iq4_xs.gguf", "type iq4_xs: a/b has none in g4's order of preference"),
        ("m.gguf", "no file name of a/b says its type: the shortest one is taken"),
    ):
        made = plan("hf:a/b", Facts({"a/b": (RemoteFile(file, 9, "a" * 64),)}))
        assert made.reasons == (reason,)
    with pytest.raises(NotFound, match="has no file"):
        plan(f"hf:{GGML}/none.gguf", facts)
    with pytest.raises(NotFound, match="no GGUF and no checkpoint"):
        plan("hf:a/empty", Facts({"a/empty": (RemoteFile("README.md", 1),)}))


def test_bundled_and_local_models_need_no_facts(tmp_path: Path) -> None:
    assert plan("tiny:q8_0", Facts()) == PullPlan("bundled", "tiny", "q8_0")
    local = plan(str(tmp_path / "own.gguf"), Facts(), name="mine")
    assert (local.kind, local.name, local.path) == ("local", "mine", tmp_path / "own.gguf")
    with pytest.raises(UsageError, match="--name"):
        plan("e2b", Facts(), name="mine")
