"""The parts of the language model runtime: tokens, prompts, families, attention, key/value memory, batching."""
