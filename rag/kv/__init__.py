"""What the language model read of each chunk, kept: states, stores, and how they are put together again."""
