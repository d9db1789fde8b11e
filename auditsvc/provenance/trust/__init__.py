"""Which keys are trusted, for what and since when; how that is published (TUF); what was revoked."""
