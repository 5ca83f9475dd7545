"""Runs a command under limits: `python limited.py MEMORY FILE_SIZE NOBODY COMMAND...` (0: none).

A program of its own, since running Python between fork and exec is unsafe in a threaded parent.
"""

import os
import resource
import signal
import sys

NOBODY = 65534


def main() -> None:
    """Sets the limits, then becomes the command."""
    memory, file_size, nobody = (int(word) for word in sys.argv[1:4])
    if memory:
        # Private memory only: address space would also count mapped files and reserved stacks.
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    if file_size:
        # SIGXFSZ stays ignored, as Python sets it, so that a write fails as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    if nobody and os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(sys.argv[4], sys.argv[4:])


main()
