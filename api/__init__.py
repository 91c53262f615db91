"""The REST door to Kvasir."""
