"""Reports for auditors and managers, built from records alone.

``report``      records to one ``Report`` (plain data), its wording, and checks of the result
``assessment``  the status of each row of a framework, from evidence and statements by people
``render``      HTML, PDF, Markdown, OSCAL and the other formats; each prints the ``Report`` and nothing else

Nothing here measures or decides, and nothing imports torch, a server or a database.
"""
