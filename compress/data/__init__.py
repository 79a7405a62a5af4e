"""What a task is: its specification, presets, data, tokenization and metrics."""
