"""`python -m steel_train`; the commands are in cli.py."""

from steel_data.errors import run_command


def main() -> None:
    """Run the command line."""

    def command() -> None:
        from steel_train.cli import app

        app()

    run_command(command)


if __name__ == "__main__":
    main()
