"""The words of a record and of a pass."""

# A record is 24 int64 fields; these are their byte offsets. A step is the number of bytes from one token to the next.
(
    FN,
    WAIT,
    COUNT,
    OUT,
    OUT_STEP,
    X,
    X_STEP,
    W,
    S,
    ROWS,
    COLS,
    Q,
    QS,
    QC,
    Q_STEP,
    G_STEP,
    BIAS,
    GAIN,
    ADD,
    A,
    B,
    C,
    D,
    E,
) = range(0, 192, 8)
RECORD_BYTES = 192

# A pass: what changes from one forward to the next. Addresses of int64 [n]: TOKENS, POSITIONS, SLOTS, and WANTED (which
# tokens' logits are wanted). A job for the worker threads begins with its number.
(
    N_TOKENS,
    N_WANTED,
    TOKENS,
    POSITIONS,
    SLOTS,
    WANTED,
    PROGRAM,
    N_RECORDS,
    SCRATCH,
    SCRATCH_STEP,
    N_PAIRS,
) = range(0, 88, 8)
PASS_BARRIER, PASS_JOB, PASS_STOP, PASS_DONE, PASS_OWN = (
    128,
    256,
    264,
    272,
    320,
)  # the barrier: arrived, 64 bytes on the round

# From PASS_OWN on, 64 bytes for each thread: the last job it saw, its patience.
LEAST, MOST = 4, 1024  # pauses, up to some 20 microseconds, before a waiting thread lets others run
IDLE = 10000  # looks for the next pass, some milliseconds, before a worker sleeps
AHEAD = 1024  # bytes: how far before its use a weight is asked for; the processor's own guesses stop at every page
KEYS = 64  # keys of a block: attention takes its sums in these, so that any chunking gives the same bits
CHUNK = 128  # tokens of a pass at most
WANTED_MAX = 16  # of which this many can have their logits taken
