"""Speed as a ratio: each part of Kvasir beside the bare thing it is made of, measured in the same run."""
