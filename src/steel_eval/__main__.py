"""`python -m steel_eval`: an InputError is one line on stderr and exit status 2; any other exception is our bug."""

import sys


def main() -> None:
    """Run the command line."""
    from steel_data.errors import InputError

    try:
        if sys.argv[1:2] == ["lm_eval"]:
            # everything behind it is lm-eval's own command line, with our model class registered
            from steel_eval.harness import lm_eval_command

            lm_eval_command(sys.argv[2:])
            return
        from steel_eval.cli import app

        app()
    except InputError as error:
        # what comes from data or a path may hold control characters: nothing of it reaches the terminal raw
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))
        sys.stderr.write(f"error: {line}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command again to go on\n")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # `compare … | head` closes the pipe: no fault
        sys.exit(0)


if __name__ == "__main__":
    main()
