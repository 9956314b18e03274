"""The devices of ggml: the CPU and the GPUs that the loaded build can use.

python -m g4cli.runtime.llama.devices      prints them as JSON
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final

from g4cli.core.errors import UsageError
from g4cli.core.units import MORE_LAYERS
from g4cli.runtime.llama.library import build_info, load_llama

# enum ggml_backend_dev_type, ggml/include/ggml-backend.h, llama.cpp@0c1e57098.
# igpu: shares the host's memory. accel: for the CPU, such as BLAS. meta: several as one.
_KIND: Final = MappingProxyType({0: "cpu", 1: "gpu", 2: "igpu", 3: "accel", 4: "meta"})


@dataclass(frozen=True, slots=True)
class Device:
    """One ggml device. `kind`: a value of _KIND, or "other". Memory in bytes; 0 if unknown."""

    name: str
    description: str
    kind: str
    free_bytes: int
    total_bytes: int


def list_devices() -> tuple[Device, ...]:
    """Return all devices, in ggml's order. Raises EngineMissing."""
    ggml = load_ggml()
    devices = []
    for index in range(ggml.ggml_backend_dev_count()):
        handle = ggml.ggml_backend_dev_get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        ggml.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
        devices.append(
            Device(
                name=ggml.ggml_backend_dev_name(handle).decode(),
                description=ggml.ggml_backend_dev_description(handle).decode("utf-8", "replace"),
                kind=_KIND.get(ggml.ggml_backend_dev_type(handle), "other"),
                free_bytes=free.value,
                total_bytes=total.value,
            )
        )
    return tuple(devices)


def make_device_error(name: str) -> UsageError:
    """Return the error that no device has this name, with the names of all."""
    known = ", ".join(f"{d.name} ({d.description})" for d in list_devices())
    return UsageError(f"no device {name!r}; this build sees {known}", hint="omit --device")


def can_offload() -> bool:
    """Return whether layers can be offloaded: to a GPU, or to a worker that is registered.

    llama_supports_gpu_offload() says so of every build with RPC, also where no worker is.
    """
    ggml = load_ggml()
    handles = map(ggml.ggml_backend_dev_get, range(ggml.ggml_backend_dev_count()))
    return any(_KIND.get(ggml.ggml_backend_dev_type(h)) in ("gpu", "igpu") for h in handles)


class _BufferOverride(ctypes.Structure):
    """struct llama_model_tensor_buft_override, include/llama.h."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


def keep_experts_on_cpu(params: Any, n_layers: int) -> Any:
    """Return an object that must live until the model is loaded with `params`.

    `params` (llama_model_params) is changed so that the experts of the first `n_layers` stay on the
    CPU.
    """
    cpu = load_ggml().ggml_backend_cpu_buffer_type()
    # The entry after the last stays zero: it ends the list.
    overrides = (_BufferOverride * 2)(_BufferOverride(make_expert_pattern(n_layers).encode(), cpu))
    params.tensor_buft_overrides = ctypes.addressof(overrides)
    return overrides


def make_expert_pattern(n_layers: int) -> str:
    """Return a regular expression for the names of the experts' matrices of the first `n_layers`.

    It is one for all layers: llama.cpp compiles it again for each tensor. Source:
    LLM_FFN_EXPS_REGEX, common/common.h, llama.cpp@0c1e57098.
    """
    experts = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
    if n_layers >= MORE_LAYERS:
        return experts
    return rf"blk\.({'|'.join(map(str, range(n_layers)))}){experts}"


def load_ggml() -> Any:
    """Return the libggml that libllama uses, its backends registered, device functions declared.

    Raises EngineMissing.
    """
    load_llama()  # registers the backends
    # A wheel holds no links: libggml.so and libggml.so.0 are two copies, each with its own registry
    # of devices, and libllama uses one. A symbol is looked up in what libllama was linked to.
    library = ctypes.CDLL(str(build_info().library))
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    sizes = ctypes.POINTER(ctypes.c_size_t)
    declare_functions(
        library,
        ("ggml_backend_dev_count", ctypes.c_size_t, []),
        ("ggml_backend_dev_get", pointer, [ctypes.c_size_t]),
        ("ggml_backend_dev_by_name", pointer, [text]),
        ("ggml_backend_dev_name", text, [pointer]),
        ("ggml_backend_dev_description", text, [pointer]),
        ("ggml_backend_dev_type", ctypes.c_int, [pointer]),
        ("ggml_backend_dev_memory", None, [pointer, sizes, sizes]),
        ("ggml_backend_cpu_buffer_type", pointer, []),
    )
    return library


def declare_functions(library: Any, *signatures: tuple[str, Any, Sequence[Any]]) -> None:
    """Set the signatures of C functions, each (name, result type, argument types)."""
    for name, result, arguments in signatures:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


if __name__ == "__main__":
    print(json.dumps([asdict(device) for device in list_devices()], indent=1))
