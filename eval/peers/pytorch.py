"""PyTorch itself, with what it brings: bf16, torch.compile, dynamic int8. Runs the teacher's checkpoint."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

from peers import Batch, Opened


def open_model(variant: str, folder: Path, threads: int) -> Opened:
    """Open the checkpoint as transformers does, and turn it into a variant."""
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    taken = inspect.signature(model.forward).parameters  # DistilBERT has no token types
    if variant == "bf16":
        model = model.to(torch.bfloat16)
    elif variant == "int8":
        with warnings.catch_warnings():  # torch.ao.quantization is deprecated, and still what PyTorch itself brings
            warnings.simplefilter("ignore")
            model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    elif variant == "compile":
        model = torch.compile(model)

    def forward(batch: Batch) -> object:
        tensors = {name: torch.from_numpy(array) for name, array in batch.items() if name in taken}
        with torch.inference_mode():
            return model(**tensors).logits.float().numpy()

    facts = {"quantized_engine": torch.backends.quantized.engine} if variant == "int8" else {}
    return forward, facts
