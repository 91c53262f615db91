"""What clients of other servers send and expect: their paths, leniencies, answers and errors."""
