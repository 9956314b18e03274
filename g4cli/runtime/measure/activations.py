"""Collects the sums of squared activations of every matrix, while llama.cpp evaluates.

llama.cpp asks its evaluation callback before each operation of the graph whether the result is
wanted, and calls again once the operation is computed; then the inputs are read. As llama-imatrix
does: products with a layer's matrix of at least 16 rows, and all products with matrices of experts,
where each row belongs to the expert that it was routed to. Source: tools/imatrix/imatrix.cpp
`collect_imatrix`, llama.cpp@0c1e57098.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np

from g4cli.core.errors import BadFile, G4Error
from g4cli.quant.activation_sums import ActivationSums
from g4cli.runtime.llama.graph_tensor import (
    F32,
    OP_OFFSET,
    GraphTensor,
    find_operation,
    read_values,
)
from g4cli.runtime.llama.library import load_llama

_MIN_ROWS: Final = 16  # as in collect_imatrix: single tokens are not measured
# Operands of MUL_MAT and MUL_MAT_ID; the last one, of MUL_MAT_ID alone: each token's experts.
_WEIGHTS, _INPUTS, _CHOSEN_EXPERTS = 0, 1, 2


class ActivationCollector:
    """Adds what llama.cpp multiplies to `sums`.

    `callback` is the function for `llama_context_params.cb_eval`; this object has to live as long
    as the context. An error in it is kept in `error`, and nothing is collected any more.
    """

    def __init__(self, sums: ActivationSums) -> None:
        self.sums = sums
        self.error: G4Error | Exception | None = None
        self._product = find_operation("MUL_MAT")
        self._expert_product = find_operation("MUL_MAT_ID")
        self.callback: Any = load_llama().ggml_backend_sched_eval_callback(self._handle_operation)

    def _handle_operation(self, address: int, is_question: bool, _data: int) -> bool:
        """Return, to a question, whether the result is wanted; afterwards True: llama.cpp goes on.

        `address`: of the ggml_tensor that is the result of the operation.
        """
        # Asked before each of the thousands of operations of a batch: most end here.
        op = ctypes.c_int.from_address(address + OP_OFFSET).value
        if op != self._product and op != self._expert_product:
            return False
        if self.error is not None:
            return False
        try:
            tensor = GraphTensor.from_address(address)
            if is_question:
                return op == self._expert_product or _is_wanted(tensor)
            if op == self._product:
                self._add_product(tensor)
            else:
                self._add_expert_product(tensor)
        except Exception as err:  # Python would print it here, and go on
            self.error = err
        return True

    def _add_product(self, tensor: GraphTensor) -> None:
        inputs = tensor.find_source(_INPUTS)
        n_columns = inputs.ne[0]
        name = tensor.find_source(_WEIGHTS).plain_name
        matrix = self.sums.find_matrix(name, 1, n_columns)  # 1: no experts
        for outer in read_values(inputs, np.float32):  # shape (ne[3], ne[2], rows, columns)
            for rows in outer:
                matrix.add_rows(0, rows)
        _require_finite(name, matrix.sums)

    def _add_expert_product(self, tensor: GraphTensor) -> None:
        weights, inputs = tensor.find_source(_WEIGHTS), tensor.find_source(_INPUTS)
        name, n_experts = weights.plain_name, weights.ne[2]
        rows = read_values(inputs, np.float32)[0]  # (tokens, 1 or experts used, columns)
        chosen_experts = tensor.find_source(_CHOSEN_EXPERTS)
        chosen = read_values(chosen_experts, np.int32)[0, 0]  # (tokens, experts used)
        if chosen.min() < 0 or chosen.max() >= n_experts:
            raise BadFile(f"llama.cpp routes a token of {name} to an expert that does not exist")
        matrix = self.sums.find_matrix(name, n_experts, inputs.ne[0])
        n_tokens, n_used = chosen.shape
        # In llama-imatrix's order: all tokens of the first choice, then all of the second.
        experts = chosen.T.reshape(-1)
        tokens = np.tile(np.arange(n_tokens), n_used)
        # Where all experts read the same input (the first matrices of a layer), it has one row.
        choices = np.repeat(np.arange(n_used), n_tokens) % rows.shape[1]
        order = np.argsort(experts, kind="stable")
        ends = np.cumsum(np.bincount(experts, minlength=n_experts))
        for expert in np.unique(experts).tolist():
            picked = order[ends[expert - 1] if expert else 0 : ends[expert]]
            matrix.add_rows(expert, rows[tokens[picked], choices[picked]])
            _require_finite(name, matrix.sums[expert])


def _is_wanted(tensor: GraphTensor) -> bool:
    """Return whether the rows of a product belong to a layer's matrix, and are enough."""
    inputs = tensor.find_source(_INPUTS)
    return bool(
        inputs.ne[1] >= _MIN_ROWS
        and inputs.type == F32
        and tensor.find_source(_WEIGHTS).plain_name.startswith("blk.")
    )


def _require_finite(name: str, sums: Any) -> None:
    if not np.isfinite(sums).all():
        raise BadFile(f"the activations before {name} are NaN or infinite: the model is damaged")
