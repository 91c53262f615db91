"""Everything that is true before a question arrives: readers, chunks, stores and their life cycle."""
