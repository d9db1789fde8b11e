"""``python -m auditsvc.cli``."""

from auditsvc.cli import main

main()
