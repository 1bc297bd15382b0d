"""``python -m streamptycho_sim`` is ``streamptycho-sim``."""

from streamptycho_sim.cli import main

if __name__ == "__main__":
    main()
