"""The main job on real models and images that ship with the package.

``case_data`` has the parents, recipes and data sets; ``run`` runs a case from end to end.
"""
