"""The language model that comes with Kvasir: weights, tokenizer and head set, and the code that made them."""
