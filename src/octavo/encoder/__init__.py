"""The packed BERT-family encoder, its head, and reading weights out of Hugging Face folders. Needs torch."""
