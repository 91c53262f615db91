"""/v1/jobs: documents taken in beside the answers."""
