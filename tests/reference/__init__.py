"""Fast paths against their slow, plain twins, and golden numbers."""
