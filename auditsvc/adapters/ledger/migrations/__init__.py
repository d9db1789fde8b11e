"""How the ledger's tables came to be, one file for each step.  A step that was released is never edited."""
