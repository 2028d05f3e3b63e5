"""Machines with a Raspberry Pi's userland, emulated: Debian arm64, a Pi's processor model, a camera.

    python -m tools.pi_lab                                  all three machines
    python -m tools.pi_lab trixie-litert --parts tests      one machine, one part of its run
    python -m tools.pi_lab --count-instructions             what a frame costs, in instructions

It needs a Debian-like Linux with the packages that `host.py` names, and no KVM, container or root. What runs here is
the wheel that a user installs, on the Debian that Raspberry Pi OS is. What it cannot say: how fast a Pi is, how hot it
gets, and how a real sensor behaves.
"""
