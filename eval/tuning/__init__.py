"""What ``kvasir-eval tune`` does: settings of a pipeline chosen on one split, with a record of how."""
