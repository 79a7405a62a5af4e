"""What messages call the signals that end a command."""

from __future__ import annotations

import signal

SIGNAL_NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
