"""What ``kvasir-eval report`` writes: one page, Markdown, LaTeX, plots, runs, and tables for other programs."""
