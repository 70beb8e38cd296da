"""`python -m bench.engines`."""

from bench.engines.run import main

if __name__ == "__main__":
    main()
