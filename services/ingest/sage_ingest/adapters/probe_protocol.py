"""What the process that probes and its parent say to each other, over the worker's standard input and output.

The worker says READY. The parent sends START. Then the worker sends any number of READs, each answered with a LENGTH
and as many bytes, and at last one ANSWER: a LENGTH and that much JSON.
"""

import struct

READY = b"H"
READ = b"R"
ANSWER = b"A"
# The file's size, and how much of it may be read.
START = struct.Struct("!QQ")
# Offset and length, after READ.
READ_ARGUMENTS = struct.Struct("!QI")
LENGTH = struct.Struct("!I")
