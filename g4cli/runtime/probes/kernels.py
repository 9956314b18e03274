"""Which of ggml's matrix products work on this machine, tried in a child process.

A CPU can advertise instructions that fault when used (AMX tiles in some virtual machines); the
library then dies with SIGILL or SIGSEGV in the first Q4_0 product. So the product of every weight
type is tried once per machine and library build: in the layout "plain", in which files store
weights, and in the layout "extra", which is every repacked one that the CPU has (ggml's "extra
buffer types"). Its result is compared with numpy's, and the report is stored.

    python -m g4cli.runtime.probes.kernels

tries every product again and exits with 1 if one fails: then `make setup` compiles llama.cpp again.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from g4cli.core.child import exit_text, parse_json_lines, run_child
from g4cli.core.child_memory import ChildOutput
from g4cli.core.paths import cache_dir
from g4cli.core.records import read_record, write_record
from g4cli.runtime.llama.installation import library_fingerprint

Layout = Literal["plain", "extra"]
# What `run_child` is: runs a module of g4 in a child, returns what it printed and its exit status.
RunChild: TypeAlias = Callable[..., tuple[ChildOutput, int]]

_TIMEOUT_S: Final = 60  # of a child; a choice: on a busy machine all products take a few seconds
# The types of weights in published Gemma 4 files.
TYPES: Final = (
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Product:
    """The outcome of one matrix product: weights of one type in one memory layout.

    `status`: 'wrong' if the numbers differ from numpy's, 'absent' if this CPU repacks no weights of
    that type. `detail`: the relative error, or how the child ended.
    """

    type: str
    layout: Layout
    status: Literal["ok", "wrong", "crash", "absent"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class KernelReport:
    """All outcomes, and whether to repack weights because of them, with the reason in words."""

    products: tuple[Product, ...]
    use_extra_bufts: bool
    reason: str

    def find_broken(self, layout: Layout) -> tuple[Product, ...]:
        """Return the products of `layout` that crash or give wrong numbers."""
        return tuple(
            p for p in self.products if p.layout == layout and p.status in ("crash", "wrong")
        )


def probe_kernels(*, refresh: bool = False, run: RunChild = run_child) -> KernelReport:
    """Return which products work here: the stored report, if it is of this machine and library.

    `refresh` tries all of them again. `run` starts the children. Raises EngineMissing.
    """
    store, key = cache_dir() / "kernels.json", machine_key()
    products = None if refresh else _load_products(store, key)
    if products is None:
        products = (*_try_all("plain", run), *_try_all("extra", run))
        write_record(store, {"key": key, "products": [asdict(p) for p in products]})
    return _make_report(products)


def _make_report(products: tuple[Product, ...]) -> KernelReport:
    works = "all matrix products of repacked weights work on this machine"
    report = KernelReport(products, use_extra_bufts=True, reason=works)
    broken = report.find_broken("extra")
    if not broken:
        return report
    verb = "crashes" if broken[0].status == "crash" else "gives wrong numbers"
    what = f"the {broken[0].type} matrix product {verb} here ({broken[0].detail})"
    return KernelReport(products, False, f"weights are not repacked: {what}")


def _try_all(layout: Layout, run: RunChild) -> list[Product]:
    """Return an outcome for every type; the type at which a child dies gets 'crash'.

    A child tries the types in order. A new one goes on with those after the crash.
    """
    left, products = list(TYPES), list[Product]()
    while left:
        args = [layout, *left]
        seen, status = run("g4cli.runtime.probes.kernel_child", args, timeout_s=_TIMEOUT_S)
        for row in parse_json_lines(seen.stdout):
            products.append(Product(row["type"], layout, row["status"], row["detail"]))
            left.remove(row["type"])
        if left:
            ended = f"no end in {_TIMEOUT_S} s" if seen.timed_out else exit_text(status)
            products.append(Product(left.pop(0), layout, "crash", ended))
    return products


def machine_key() -> str:
    """Return a text that changes with the CPU and with the installed llama.cpp.

    The name of the machine is part of it, since several may share a home directory.
    """
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        cpu = platform.processor() or platform.machine()  # it may run `uname -p`
    else:
        first = info.read_text(errors="replace").split("\n\n", 1)[0].splitlines()
        # Frequency and bogomips change from one reading to the next.
        cpu = "\n".join(
            line
            for line in first
            if line.startswith(("model name", "flags", "Features", "CPU part"))
        )
    text = "\n".join((platform.node(), cpu, library_fingerprint()))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _load_products(store: Path, key: str) -> tuple[Product, ...] | None:
    saved = read_record(store)
    try:
        if saved["key"] != key:
            return None
        return tuple(Product(**item) for item in saved["products"])
    except (ValueError, TypeError, LookupError):
        return None  # absent or damaged: probe again


def main() -> None:
    """Exit with 1 if a product fails here, else with 0."""
    report = probe_kernels(refresh=True)
    sys.exit(0 if report.use_extra_bufts and not report.find_broken("plain") else 1)


if __name__ == "__main__":
    main()
