"""The loop of the paper (Figure 2): segments, checkpoints and replay, progress."""
