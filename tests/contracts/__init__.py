"""One contract for each port, kept by the fake and by the adapter alike."""
