"""The same model behind servers that people use, each a few lines with its best settings: what a user would write."""
