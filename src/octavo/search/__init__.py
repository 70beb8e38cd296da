"""Search over documents: understand the query, match, rank; and what traffic costs."""
