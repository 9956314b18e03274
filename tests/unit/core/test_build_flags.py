"""Every kind of machine gets the build that runs on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4cli.core.build_flags import X86_FLAGS, choose_flags, read_cpu_features

AVX2 = {"sse4_2", "avx", "f16c", "fma", "bmi2", "avx2"}
SAPPHIRE_RAPIDS = AVX2 | {
    "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl",
    "avx512vbmi", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8",
}  # fmt: skip


def test_an_amx_machine_gets_everything_but_amx() -> None:
    args = choose_flags(SAPPHIRE_RAPIDS).cmake_args.split()
    assert args[:2] == ["-DGGML_RPC=ON", "-DGGML_NATIVE=OFF"]
    assert {f"-D{flag}=ON" for flag, _ in X86_FLAGS} == set(args[2:])
    assert not any("AMX" in arg for arg in args)


def test_a_feature_the_cpu_lacks_is_switched_off_by_name() -> None:
    args = choose_flags(SAPPHIRE_RAPIDS - {"avx512dq", "avx512_bf16"}).cmake_args.split()
    assert "-DGGML_AVX512=OFF" in args  # ggml's AVX512 flag needs all five subsets
    assert "-DGGML_AVX512_BF16=OFF" in args
    assert "-DGGML_AVX2=ON" in args


@pytest.mark.parametrize(
    "features", [AVX2, {"asimd", "sve"}, set()], ids=["x86_64", "aarch64", "not Linux"]
)
def test_a_native_build_where_it_is_safe(features: set[str]) -> None:
    flags = choose_flags(features)
    assert flags.cmake_args == "-DGGML_RPC=ON"
    assert "a native build" in flags.reason


def test_the_users_flags_come_last() -> None:
    # CMake takes the last of two definitions, so the user's word wins.
    args = choose_flags(SAPPHIRE_RAPIDS, "-DGGML_NATIVE=ON").cmake_args.split()
    assert args[-1] == "-DGGML_NATIVE=ON"
    assert args.index("-DGGML_NATIVE=OFF") < args.index("-DGGML_NATIVE=ON")
    with_cuda = choose_flags(AVX2, "-DGGML_CUDA=on").cmake_args
    assert with_cuda == "-DGGML_RPC=ON -DGGML_CUDA=on"


# What CMake takes for true: cmake.org, command if(<constant>).
@pytest.mark.parametrize("cuda", ["=on", "=ON", "=On", "=1", ":BOOL=ON", "=TRUE", "=yes", "=y"])
def test_cuda_kernels_are_compiled_for_the_gpu_of_this_machine(cuda: str) -> None:
    args = choose_flags(SAPPHIRE_RAPIDS, f"-DGGML_CUDA{cuda} -DX=1").cmake_args.split()
    assert "-DCMAKE_CUDA_ARCHITECTURES=native" in args
    named = choose_flags(SAPPHIRE_RAPIDS, f"-DGGML_CUDA{cuda} -DCMAKE_CUDA_ARCHITECTURES=90")
    assert "native" not in named.cmake_args


@pytest.mark.parametrize("cuda", ["-DGGML_CUDA=OFF", "-DGGML_CUDA=0", "-DGGML_CUDA_F16=ON", ""])
def test_no_cuda_architecture_is_named_without_cuda(cuda: str) -> None:
    assert "ARCHITECTURES" not in choose_flags(SAPPHIRE_RAPIDS, cuda).cmake_args


def test_features_are_read_from_cpuinfo(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(
        "processor\t: 0\nflags\t\t: fpu avx2 amx_tile\n\nprocessor\t: 1\nflags\t\t: other\n"
    )
    assert read_cpu_features(file) == {"fpu", "avx2", "amx_tile"}
    file.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp\n")
    assert read_cpu_features(file) == {"fp", "asimd", "asimddp"}
    assert read_cpu_features(tmp_path / "absent") == frozenset()
