"""`python -m steel_train`: an InputError is one line on stderr and exit status 2; any other exception is our bug."""

import sys


def main() -> None:
    """Run the command line."""
    from steel_data.errors import InputError

    try:
        from steel_train.cli import app

        app()
    except InputError as error:
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))
        sys.stderr.write(f"error: {line}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to go on\n")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
