"""Count the bytes that a network sends over the wire when layers of it are on other machines.

Every message goes through the machine that runs the chat: what one worker computed is fetched from
it and sent on to the next one. For each token (or for each ubatch of a prompt) a worker gets the
hidden state before its first layer, the positions, and for each kind of attention the cells to
write and the mask; it returns the hidden state after its last layer, or the logits. Source:
ggml_backend_sched_compute_splits, ggml/src/ggml-backend.cpp; ggml/src/ggml-rpc/ggml-rpc.cpp;
llama.cpp@0c1e57098. A counting proxy saw the same bytes (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from g4cli.core.shape import Shape
from g4cli.estimate.kv import kv_cells
from g4cli.estimate.options import Options
from g4cli.estimate.result import is_remote

# The bytes of messages beside the data that they carry: command and size (1 + 8), the description
# of a tensor (struct rpc_tensor, 296), offsets and further sizes.
_SET_BYTES: Final = 9 + 296 + 1 + 8
_GET_BYTES: Final = 9 + 296 + 8 + 8 + 8  # request, and the size before the answer
_RUN_BYTES: Final = 9 + 4  # RPC_CMD_GRAPH_RECOMPUTE


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """What a run sends over the network.

    `token_bytes`: for each token of an answer, with a full context; `prompt_bytes`: for a ubatch of
    a prompt, with a full context. `n_round_trips` of each token wait for an answer of a worker.
    `load_bytes`: the weights, once.
    """

    token_bytes: int
    prompt_bytes: int
    n_round_trips: int
    load_bytes: int

    def token_seconds(self, bits_per_s: float, round_trip_s: float) -> float:
        """Return the seconds that the network adds to each token of an answer."""
        return 8 * self.token_bytes / bits_per_s + self.n_round_trips * round_trip_s


def keeps_layers_together(shape: Shape) -> bool:
    """Return whether all layers of the network have to be on one device.

    E2B and E4B: most layers read the keys and values of an earlier layer, and each has inputs of
    its own per token. Between devices, all of these would be sent for each token.
    """
    return shape.n_layer_kv < shape.n_layer or shape.n_embd_per_layer > 0


def count_network_bytes(
    shape: Shape, options: Options, devices: Sequence[str], load_bytes: int
) -> NetworkCost | None:
    """Return the cost of the network if `devices` hold the layers and, last, the output.

    `load_bytes` are the weights that loading sends. None if nothing is on workers, or if layers are
    divided that have to stay together.
    """
    used = list(dict.fromkeys(devices))
    workers = [device for device in used if is_remote(device)]
    if not workers or (keeps_layers_together(shape) and len(used) > 1):
        return None
    token = prompt = 0
    for worker in workers:
        token += _count_for_worker(shape, options, devices, worker, 1)
        prompt += _count_for_worker(shape, options, devices, worker, options.ubatch)
    return NetworkCost(token, prompt, len(workers), load_bytes)


def _count_for_worker(
    shape: Shape, options: Options, devices: Sequence[str], worker: str, n_tokens: int
) -> int:
    """Return the bytes to and from a worker for a batch of `n_tokens`, of which one has logits."""
    layers = [i for i, device in enumerate(devices) if device == worker]
    cells = kv_cells(shape, options)
    # One message each, in bytes; F32 and int32 where no other type is named.
    sent = [4 * shape.n_embd * n_tokens, 4 * n_tokens]  # the hidden state, the positions
    kinds = {shape.is_swa[i] for i in layers if i < shape.n_layer}
    for is_swa in kinds:
        mask = 2 * n_tokens * (cells.swa if is_swa else cells.full)  # F16
        sent += [8 * n_tokens, 8 * n_tokens, mask]  # the cells of K and V to write, as int64
    if shape.n_embd_per_layer:
        sent.append(4 * shape.n_embd_per_layer * shape.n_layer * n_tokens)
    has_output = layers[-1] == shape.n_layer
    if has_output:
        sent.append(4)  # which token gets logits
    received = 4 * (shape.n_vocab if has_output else shape.n_embd * n_tokens)
    return sum(sent) + len(sent) * _SET_BYTES + _RUN_BYTES + received + _GET_BYTES
