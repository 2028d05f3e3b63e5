"""Models on an Edge TPU: which there are, what the system lacks, and a process of its own for each."""
