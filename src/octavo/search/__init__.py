"""Search over documents: understand the query, match, rank; and what traffic costs."""

from typing import Final

RERANK: Final = 20
"""So many of the fused documents are ranked, unless told otherwise."""
