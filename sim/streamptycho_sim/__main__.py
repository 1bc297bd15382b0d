"""``python -m streamptycho_sim``."""

from streamptycho_sim.cli import main

if __name__ == "__main__":
    main()
