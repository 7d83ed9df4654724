"""`python -m steel_data`; the commands are in cli.py."""

from steel_data.errors import run_command


def main() -> None:
    """Run the command line."""

    def command() -> None:
        from steel_data.chinese import run
        from steel_data.cli import app

        run(app)

    run_command(command)


if __name__ == "__main__":
    main()
