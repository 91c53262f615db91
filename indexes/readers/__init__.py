"""Readers: each turns one kind of place (a folder, a JSONL file, a BEIR corpus) into documents."""
