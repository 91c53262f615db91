"""Test collections: which are known, what they should hold, and foreign layouts brought into BEIR's."""
