"""One small file per verb: parse, call, print. No tensors, and no torch at import time."""
