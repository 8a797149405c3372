"""The words of a pass, and of the head of a record."""

CHUNK = 128  # tokens of a pass at most
WANTED_MAX = 16  # of which this many can have their logits taken
KEYS = 64  # keys of a block: attention sums in these, so that any chunking gives the same bits
AHEAD = 1024  # bytes: how far before its use a weight is asked for; the processor's own
# guesses stop at every page

# A record is RECORD_BYTES of int64: the kernel's address, whether all threads wait for each other
# behind it, the address of how many rows it has; then its operands (operands.py). A step is the
# number of bytes from one token to the next.
FN, WAIT, COUNT, OPERANDS = 0, 8, 16, 24
RECORD_BYTES = 192

# A pass: what changes from one forward to the next. Addresses of int64 [n]: TOKENS, POSITIONS,
# SLOTS, and WANTED (which tokens' logits are wanted). A job for the worker threads begins with its
# number.
N_TOKENS, N_WANTED, N_PAIRS, TOKENS, POSITIONS, SLOTS, WANTED = range(0, 56, 8)
PROGRAM, N_RECORDS, SCRATCH, SCRATCH_STEP = range(56, 88, 8)
PASS_BARRIER = 128  # arrived, 64 bytes on the round
PASS_JOB, PASS_STOP, PASS_DONE = 256, 264, 272
PASS_OWN = 320  # from here 64 bytes for each thread: the last job it saw, its patience
