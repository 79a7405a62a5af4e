"""Many recipes at once: a store of finished stages that they share, executors that run stages, sweeps and searches."""
