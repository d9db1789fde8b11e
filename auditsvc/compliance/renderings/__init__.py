"""One report, many forms.  Each function takes a ``Report`` and gives text or bytes; none reads anything else."""
