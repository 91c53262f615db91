"""Documents taken in beside the answers: jobs that survive the server, wait their turn and can be stopped."""
