# SPDX-License-Identifier: GPL-2.0-or-later
"""Start a program on a listening Unix socket as its standard input, as FastCGI has it:

python3 plain_worker.py SOCKET PROGRAM
"""

import os
import socket
import sys

path, program = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
os.chmod(path, 0o666)
listener.listen(64)
os.dup2(listener.fileno(), 0)
os.execv(program, [program])
