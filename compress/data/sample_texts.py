"""A few sentences of many lengths, to verify an export without a task."""

from __future__ import annotations

import numpy as np

from compress.data.examples import Examples

SENTENCES = (
    "Yes.",
    "What a waste of time!",
    "The film was better than I expected.",
    "Shares in the company fell by 12% after it cut its forecast for the year.",
    "Please send me a new card, the old one has been stolen.",
    "In 1998, the two universities agreed to build a telescope together on a mountain in northern Chile.",
    "naïve café — Übergröße, 東京, 😀 and a URL: https://example.org/path?query=1",
    "Although the first half of the book is slow, and its many characters are hard to tell apart, the second half more "
    "than makes up for it with a plot that turns, surprises, and in the end moves its reader to tears.",
    "The committee, which had met eleven times since the spring without coming to any agreement, published on Friday a "
    "report of four hundred pages in which it recommends that the railway be extended to the coast, that the two older "
    "bridges be replaced within ten years, and that the cost, estimated at three billion, be shared between the regions "
    "and the state; the minister said that she would read it with care before she answered any questions about it.",
)


def sample_examples(repeats: int = 4) -> Examples:
    """Return sentences, alone and concatenated: tens of lengths up to several hundred tokens."""
    texts: list[tuple[str, ...]] = [(sentence,) for sentence in SENTENCES]
    texts += [(" ".join(SENTENCES[:count]),) for count in range(2, len(SENTENCES) + 1)]
    texts += [(" ".join(SENTENCES) * count,) for count in range(2, repeats)]
    return Examples(texts, np.zeros(len(texts), dtype=np.int64))
