"""A child process that fails before it answers: it writes much to standard error, then why."""

import sys

if __name__ == "__main__":
    sys.stderr.write("loading\n" * 100_000 + "RuntimeError: the driver is too old\n")
    sys.exit(3)
