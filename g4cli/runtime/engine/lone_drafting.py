"""Drafting in a context of several conversations: for the answer that runs while no other does.

Answers that run together advance by one token a batch. An answer with drafts would put more tokens
into the batch than the others do. llama.cpp evaluates those that one sequence has more by
themselves, which costs another reading of all weights. So tokens are drafted only while a single
turn runs, in batches of its own, as with one conversation (see `speculation`). When another turn
comes, the drafts that were not accepted are removed, and both answers go on without drafts.
"""

from __future__ import annotations

from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.drafting import Exactness
from g4cli.runtime.engine.slot import Turn
from g4cli.runtime.engine.speculation import LookupDrafter, Speculation


class LoneDrafting:
    """Evaluates the tokens of the only turn that runs, with drafts by prompt lookup."""

    def __init__(self, context: Context, exactness: Exactness, *, has_experts: bool) -> None:
        """`context` must have been made with N_OUTPUTS rows of logits for a sequence."""
        self._context = context
        self._speculation = Speculation(
            context, LookupDrafter(), exactness, has_experts=has_experts
        )
        self.turn: Turn | None = None  # whose tokens are drafted

    def advance(self, turn: Turn) -> bool:
        """Evaluate the sampled token of `turn`; its `row` is then the one that follows.

        Return False if interrupted. Raises ContextFull or RuntimeFailed.
        """
        tokens = turn.sequence.tokens
        if self.turn is not turn:
            self._begin(turn)
        (token,) = turn.next_tokens
        if not self._speculation.advance(token, len(tokens)):
            return False
        tokens.append(token)
        turn.row = self._context.row
        return True

    def stop(self) -> None:
        """Remove the drafts that are not accepted: another turn comes, or this one ends.

        Raises RuntimeFailed if llama.cpp refuses.
        """
        turn, self.turn = self.turn, None
        if turn is not None:
            self._speculation.drop_rejected(len(turn.sequence.tokens))

    def note_moved_cells(self) -> None:
        """Compare a batch with a single token anew: the cells of the window may have moved."""
        self._speculation.note_moved_cells()

    def _begin(self, turn: Turn) -> None:
        """Draft for `turn` from now on: it has just begun its answer, or the others have ended."""
        self.stop()
        self._speculation.seq = turn.sequence.number
        if turn.drafted is None:
            self._speculation.begin_answer(len(turn.sequence.tokens), greedy=turn.is_greedy)
            turn.drafted = self._speculation.drafted
        # Other turns or a checkpoint may have moved the cells of the window.
        self._speculation.set_prompt(turn.sequence.tokens, restored=True)
        self.turn = turn
