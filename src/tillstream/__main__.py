"""`python -m tillstream`: the command line."""

from tillstream.cli import main

if __name__ == "__main__":
    main()
