"""A TFLite file on the workstation: made in a child process, held against gates, given its metadata."""
