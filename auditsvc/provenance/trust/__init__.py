"""Which keys are trusted, for what, since when; recalls; TUF."""
