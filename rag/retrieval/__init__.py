"""First-stage retrievers and what is composed of them; each is a Retriever."""
