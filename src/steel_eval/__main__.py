"""`python -m steel_eval`; the commands are in cli.py. What follows `lm_eval` is lm-eval's own command line."""

import sys

from steel_data.errors import run_command


def main() -> None:
    """Run the command line."""

    def command() -> None:
        if sys.argv[1:2] == ["lm_eval"]:
            # with our model class registered
            from steel_eval.harness import lm_eval_command

            lm_eval_command(sys.argv[2:])
            return
        from steel_data.chinese import run
        from steel_eval.cli import app

        run(app)

    run_command(command)


if __name__ == "__main__":
    main()
