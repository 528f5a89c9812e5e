"""`python -m mlpprof` is the command `mlpprof`."""

from mlpprof.cli.main import main

if __name__ == "__main__":
    main()
