"""`python -m steel` and `steel`; the commands are in cli.py (apart: the entry point that packaging names)."""

import sys

from steel_data.errors import run_command


def main() -> None:
    """Run the command line."""

    def command() -> None:
        if sys.argv[1:2] == ["lm-eval"]:
            # what follows is lm-eval's own command line, with our model class registered
            from steel_eval.harness import lm_eval_command

            lm_eval_command(sys.argv[2:])
            return
        from steel.cli import app
        from steel_data.chinese import run

        run(app, "steel")

    run_command(command)


if __name__ == "__main__":
    main()
