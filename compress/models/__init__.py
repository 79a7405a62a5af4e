"""BERT-family table, reading and writing checkpoints, sizes (parameters, FLOPs)."""
