"""The watermark against what thieves do, beside two peers; run with ``python -m tests.bench.watermark``."""
