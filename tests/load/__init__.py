"""The server under load, over hours in minutes, and against clients that mean no good."""
