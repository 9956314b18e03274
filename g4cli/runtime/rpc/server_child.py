"""The child process of `g4 worker`: llama.cpp's RPC server, for the relay alone.

    python -m g4cli.runtime.rpc.server_child OPTIONS      OPTIONS: a ServerOptions as JSON

The first line of its output is JSON: {"kinds": [...], "names": [...]}, or {"error": [reference,
message, hint]}. Then it serves until it is ended: llama.cpp's server never returns.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from g4cli.core.errors import G4Error
from g4cli.runtime.engine.context import count_physical_cores
from g4cli.runtime.llama.rpc import choose_worker_devices, require_rpc, serve_devices


def main() -> None:
    """Serve this machine's devices as the options on the command line say."""
    options: dict[str, Any] = json.loads(sys.argv[1])
    try:
        require_rpc()
        devices = choose_worker_devices(options["device"])
        names, kinds = [name for name, _ in devices], [kind for _, kind in devices]
        print(json.dumps({"names": names, "kinds": kinds}), flush=True)
        n_threads = options["n_threads"] or count_physical_cores()
        serve_devices(names, "127.0.0.1", options["port"], n_threads, options["cache_folder"])
    except G4Error as err:
        print(json.dumps({"error": [err.reference, err.message, err.hint]}), flush=True)


if __name__ == "__main__":
    main()
