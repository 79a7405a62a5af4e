"""The families of pruning methods."""

from __future__ import annotations

REFITTING = ("obs", "fisher")  # prune units in steps, and refit the model after each
STRUCTURED = (*REFITTING, "taylor", "magnitude", "random")  # prune heads and neurons
COARSE = ("layers", "hidden")  # prune what comes in few sizes: whole layers, the hidden width
SIZE_ONLY = ("vocab", "sparse")  # make the file smaller, and nothing faster
