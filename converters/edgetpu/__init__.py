"""The Edge TPU, seen from the workstation: what its compiler would place on the chip, and the compiler itself."""
