"""Machines with a Raspberry Pi's userland, emulated: Debian, a Pi's processor model, and where it boots a camera.

    python -m tools.pi_lab                                  all five machines
    python -m tools.pi_lab trixie-litert --parts tests      one machine, one part of its run
    python -m tools.pi_lab --count-instructions             what a frame costs, in instructions

It needs a Debian-like Linux with the packages that `host.py` names, and no KVM, container or root. Four machines are
64-bit and boot a kernel of their own (`boot.py`); the 32-bit one has none, and its processes run on this machine's
kernel (`userland.py`). What runs here is the wheel that a user installs, on the Debian that Raspberry Pi OS is. What it
cannot say: how fast a Pi is, how hot it gets, and how a real sensor behaves.
"""
