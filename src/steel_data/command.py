"""How every command of steel ends: an InputError is one line on stderr and exit status 2; all else is our bug."""

import sys
from collections.abc import Callable

from steel_data.errors import InputError


def run_command(command: Callable[[], object]) -> None:
    """Run a command line. `command` imports what it needs itself, so that an error there is told like any other."""
    try:
        command()
    except InputError as error:
        # what comes from data or a path may hold control characters: nothing of it reaches the terminal raw
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))
        sys.stderr.write(f"error: {line}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to go on\n")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # `… | head` closes the pipe: no fault
        sys.exit(0)
