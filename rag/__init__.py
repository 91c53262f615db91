"""Everything that happens after a question arrives: retrieve, fuse, rerank, select, generate."""
